//! Bugs that etcd's robustness tests found in its watches and revisions: each by its number.

use super::requests::{at, get, op_get, op_put, txn};
use super::watches::{Run, contents, request};
use crate::state::Error;
use crate::watch::{MailboxLimits, WatchLimits};
use keelson_proto::etcdserverpb::WatchCreateRequest;

fn one_event(revision: i64) -> (i64, i64, String) {
    (0, revision, "1 events".to_owned())
}

/// etcd#15220: progress was reported while events were on their way to the stream.
#[test]
fn progress_is_not_reported_before_events_that_are_not_delivered() {
    let mut run = Run::new(WatchLimits::default());
    run.stream.create(request(0));
    assert_eq!(contents(&mut run.stream).len(), 1, "created");
    run.put(1, 1);
    run.stream.request_progress();
    assert_eq!(contents(&mut run.stream), vec![]);
    run.hub.fan_out().unwrap();
    let progress = (-1, 2, "Progress".to_owned());
    assert_eq!(contents(&mut run.stream), vec![one_event(2), progress]);
}

/// The same in periodic progress, of a watcher that is not behind.
#[test]
fn periodic_progress_is_not_reported_before_events_that_are_not_read() {
    let mut run = Run::new(WatchLimits::default());
    run.stream.create(WatchCreateRequest {
        progress_notify: true,
        ..request(0)
    });
    assert_eq!(contents(&mut run.stream).len(), 1, "created");
    run.put(1, 1);
    run.stream.notify_progress();
    assert_eq!(
        contents(&mut run.stream),
        vec![(0, 1, "Progress".to_owned())]
    );
    run.hub.fan_out().unwrap();
    run.stream.notify_progress();
    assert_eq!(contents(&mut run.stream), vec![one_event(2)]);
}

/// etcd#15271 and etcd#20221: a client that goes on at a member that lags behind was sent events
/// before its start revision, or progress below it.
#[test]
fn a_watch_that_goes_on_at_a_member_behind_it_is_sent_nothing_of_the_past() {
    let mut run = Run::new(WatchLimits::default());
    run.put(1, 1);
    run.stream.create(request(5));
    run.stream.request_progress();
    assert_eq!(contents(&mut run.stream).len(), 1, "created");
    for revision in 3..=5 {
        run.put(1, 1);
        run.stream.notify_progress();
        run.hub.fan_out().unwrap();
        let expected = match revision {
            3 => vec![],
            4 => vec![(-1, 4, "Progress".to_owned())],
            _ => vec![one_event(5)],
        };
        assert_eq!(contents(&mut run.stream), expected, "{revision}");
    }
}

/// etcd#17529: a watcher that was too slow for its channel, and then for the recent revisions, lost
/// events.
#[test]
fn a_starved_watcher_loses_no_event() {
    let mut run = Run::new(WatchLimits {
        mailboxes: MailboxLimits {
            each_min: 1,
            each_max: 1,
            all_max: 1,
        },
        recent_bytes: 100,
        previous_bytes: 100,
        fan_out_rows: 1,
        history_rows: 2,
    });
    run.stream.create(request(0));
    assert_eq!(contents(&mut run.stream).len(), 1, "created");
    for number in 0..100 {
        run.put(number % 6, 40);
        run.hub.fan_out().unwrap();
        if number == 50 {
            // It begins to catch up, and is too slow again.
            assert!(run.stream.next().unwrap().is_some());
        }
    }
    let mut revisions = vec![];
    for (_, last, text) in contents(&mut run.stream) {
        let count: i64 = text.trim_end_matches(" events").parse().unwrap();
        revisions.extend(last - count + 1..=last);
    }
    assert_eq!(revisions, (3..=101).collect::<Vec<_>>());
}

/// etcd#17780: the revision went back when all keys were deleted and compacted before a crash.
#[test]
fn the_revision_survives_the_compaction_of_everything_and_a_restart() {
    let mut run = Run::new(WatchLimits::default());
    (0..4).for_each(|number| run.put(number, 1));
    run.delete(0, 6);
    run.machine.compact(6).unwrap();
    run.machine.sweep();
    run.machine.flush();
    run.machine.restart();
    assert_eq!(run.machine.state.view().revision(), 6);
}

/// etcd#18089 and etcd#19179: such a watch missed the deletion.
#[test]
fn a_watch_from_the_compaction_on_is_sent_a_deletion_at_that_revision() {
    for flush in [false, true] {
        let mut run = Run::new(WatchLimits::default());
        run.put(1, 1);
        run.delete(1, 0);
        if flush {
            run.machine.flush();
        }
        run.machine.compact(3).unwrap();
        run.machine.sweep();
        run.machine.flush();
        run.replace();
        run.stream.create(request(3));
        let (_, revision, text) = contents(&mut run.stream).pop().unwrap();
        assert_eq!((revision, &text[..]), (3, "1 events"));
    }
}

/// etcd#18667: members disagreed on whether such a transaction had written.
#[test]
fn a_transaction_that_reads_a_compacted_revision_writes_nothing() {
    for sweep in [false, true] {
        let mut run = Run::new(WatchLimits::default());
        (0..3).for_each(|number| run.put(number, 1));
        run.machine.compact(4).unwrap();
        if sweep {
            run.machine.sweep();
            run.machine.flush();
        }
        let ops = vec![op_put("other", "1"), op_get(at(2, get("k0")))];
        let refused = run.machine.txn(txn(vec![], ops, vec![]));
        assert_eq!(refused.unwrap_err(), Error::Compacted);
        assert_eq!(run.machine.state.view().revision(), 4);
        assert_eq!(run.machine.show(&get("other")), [""; 0]);
    }
}
