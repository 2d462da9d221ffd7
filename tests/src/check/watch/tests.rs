//! Each check fails for what it is there for.

use bytes::Bytes;
use keelson_model::kv::Kv;
use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, ResponseHeader, WatchCreateRequest, WatchResponse,
};
use keelson_proto::mvccpb::Event;

use super::{CheckedWatch, EventLog};
use crate::history::Request;

/// Revision 2 to 5: put k1, put k2, delete both, put k1.
fn log() -> EventLog {
    let put = |key: &'static str| {
        Request::Put(PutRequest {
            key: key.into(),
            value: "value".into(),
            ..PutRequest::default()
        })
    };
    let delete = Request::DeleteRange(DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        prev_kv: false,
    });
    let (mut model, mut log) = (Kv::default(), EventLog::default());
    for request in [put("k1"), put("k2"), delete, put("k1")] {
        model.apply(&request).expect("accepted");
        log.push(&model);
    }
    log
}

fn response(revision: i64, events: Vec<Event>) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        events,
        ..WatchResponse::default()
    }
}

/// A created watch of all keys, with the pairs before.
fn watch(start_revision: i64, log: &EventLog) -> CheckedWatch {
    let mut watch = CheckedWatch::new(WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    });
    let created = WatchResponse {
        created: true,
        ..response(1, Vec::new())
    };
    watch.receive(&created, log).expect("created");
    watch
}

fn events(log: &EventLog, from: i64, to: i64) -> Vec<Event> {
    log.events(from, to).cloned().collect()
}

/// The check that fails for these responses, each a header's revision and events.
fn fails(start: i64, responses: Vec<(i64, Vec<Event>)>) -> String {
    let log = log();
    let mut watch = watch(start, &log);
    let mut outcomes = responses
        .into_iter()
        .map(|(revision, events)| watch.receive(&response(revision, events), &log));
    let failed = outcomes.find_map(Result::err).unwrap_or_default();
    failed.split(": ").nth(1).unwrap_or_default().to_owned()
}

#[test]
fn what_was_committed_is_accepted() {
    let log = log();
    assert_eq!((log.revision(), log.events(2, 5).count()), (5, 5));
    for start in 2..=5 {
        let mut watch = watch(start, &log);
        for revision in start..=5 {
            let sent = response(revision, events(&log, revision, revision));
            watch.receive(&sent, &log).expect("as committed");
            watch
                .receive(&response(revision, vec![]), &log)
                .expect("progress");
        }
        watch.complete(5, &log).expect("complete");
    }
}

#[test]
fn each_violation_fails_its_check() {
    let log = log();
    let at = |revision| events(&log, revision, revision);
    let changed = |change: fn(&mut Event)| {
        let mut all = at(4);
        change(&mut all[0]);
        all
    };
    let swapped = vec![at(3).remove(0), at(2).remove(0)];
    assert_eq!(fails(2, vec![(3, swapped)]), "ordered");
    assert_eq!(fails(2, vec![(2, at(2)), (2, at(2))]), "unique, resumable");
    assert_eq!(fails(3, vec![(2, at(2))]), "unique, resumable");
    assert_eq!(fails(4, vec![(4, at(4)[..1].to_vec())]), "atomic");
    assert_eq!(fails(2, vec![(3, at(3))]), "reliable");
    assert_eq!(fails(2, vec![(6, vec![])]), "reliable");
    assert_eq!(fails(2, vec![(2, vec![])]), "bookmarkable");
    assert_eq!(fails(5, vec![(3, vec![])]), "bookmarkable");
    assert_eq!(fails(2, vec![(1, at(2))]), "bookmarkable");
    assert_eq!(
        fails(4, vec![(4, changed(|event| event.prev_kv = None))]),
        "previous pair"
    );
    let other = |event: &mut Event| event.kv.as_mut().expect("a pair").version = 9;
    assert_eq!(fails(4, vec![(4, changed(other))]), "event");
    let outside = |event: &mut Event| event.kv.as_mut().expect("a pair").key = Bytes::from("x");
    assert_eq!(fails(4, vec![(4, changed(outside))]), "filter");
}

#[test]
fn fragments_are_one_response_and_a_new_stream_forgets_them() {
    let log = log();
    let mut watch = watch(4, &log);
    let both = events(&log, 4, 4);
    let first = WatchResponse {
        fragment: true,
        ..response(4, both[..1].to_vec())
    };
    watch.receive(&first, &log).expect("a fragment");
    assert_eq!(watch.resume().start_revision, 4);
    let created = WatchResponse {
        created: true,
        ..response(5, vec![])
    };
    watch.receive(&created, &log).expect("created again");
    watch.receive(&first, &log).expect("a fragment");
    watch
        .receive(&response(4, both[1..].to_vec()), &log)
        .expect("the rest");
    assert_eq!(watch.resume().start_revision, 5);
}

#[test]
fn a_compaction_ends_only_a_watch_that_is_behind_it() {
    let mut log = log();
    let ended = WatchResponse {
        canceled: true,
        compact_revision: 4,
        ..response(0, vec![])
    };
    assert!(
        watch(3, &log).receive(&ended, &log).is_err(),
        "not committed"
    );
    log.compact(4);
    watch(3, &log).receive(&ended, &log).expect("it is behind");
    assert!(
        watch(4, &log).receive(&ended, &log).is_err(),
        "it is not behind"
    );
}
