//! Compares what the watchers of two servers have received.
//!
//! Before a compaction both servers must have sent all events up to then. Afterwards events that
//! were still under way would have no previous pair, and watchers that were still behind would end,
//! in one server and not in the other.

use std::time::Duration;

use keelson_proto::etcdserverpb::WatchCreateRequest;
use keelson_proto::mvccpb::Event;
use keelson_proto::mvccpb::event::EventType;
use tokio::time::{Instant, timeout_at};

use super::answer::Subject;
use super::watch::{WatchEnd, WatchRecord};

/// The time limit for events: only a hang takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of the accepted difference.
pub const AT_COMPACTION: &str = "watch-at-compaction";

/// What has been compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settled {
    /// Events of all watchers.
    pub events: usize,
    /// Watchers with the accepted difference.
    pub accepted: usize,
}

/// The key of a watch that is never cancelled. Its events mark positions of both streams: those of
/// all watchers that have left the history come in order.
pub const MARKED: &[u8] = b"marker";

/// The watch of [`MARKED`].
pub fn marker_watch() -> WatchCreateRequest {
    WatchCreateRequest {
        key: MARKED.into(),
        watch_id: 500,
        ..WatchCreateRequest::default()
    }
}

/// Waits until both servers have sent the event of [`MARKED`] at `revision`, and each watcher has
/// received the same. Forgets the events then.
///
/// # Errors
/// A watcher differs; the text holds both records.
pub async fn settle(ours: &Subject, theirs: &Subject, revision: i64) -> Result<Settled, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let changed = (ours.watches.changed(), theirs.watches.changed());
        // In one step: an event that came in between was forgotten on one side only.
        let compare = |ours: &[_], theirs: &[_]| settled(ours, theirs, revision);
        let unsettled = match ours.watches.settle(&theirs.watches, compare) {
            Ok(settled) => return Ok(settled),
            Err(text) => text,
        };
        let change = async {
            tokio::select! {
                () = changed.0 => {}
                () = changed.1 => {}
            }
        };
        if timeout_at(deadline, change).await.is_err() {
            return Err(unsettled);
        }
    }
}

/// What has been compared, if both have sent the event of the marker and the same to each watcher.
fn settled(ours: &[WatchRecord], theirs: &[WatchRecord], revision: i64) -> Result<Settled, String> {
    let marked = |records: &[WatchRecord]| {
        let marker = records.iter().find(|record| *record.request.key == *MARKED);
        let event = marker.and_then(|record| record.events.last());
        let kv = event.and_then(|event| event.kv.as_ref());
        kv.is_some_and(|kv| kv.mod_revision == revision)
    };
    if !marked(ours) || !marked(theirs) {
        return Err(format!("no event of the marker at {revision}"));
    }
    let mut settled = Settled::default();
    for (our, their) in ours.iter().zip(theirs) {
        if !same(our, their) {
            return Err(explain(our, their));
        }
        settled.events += our.events.len();
        let differs = our.at_compaction && our.events != their.events;
        settled.accepted += usize::from(differs && our.end.is_none());
    }
    Ok(settled)
}

/// The ids of watchers that a compaction at `revision` may end in etcd, because nothing shows that
/// they have left the history.
pub fn exposed(theirs: &Subject, revision: i64) -> Vec<i64> {
    let may_end = |record: &&WatchRecord| {
        record.is_historical()
            && record.events.is_empty()
            && !record.had_events
            && record.request.start_revision <= revision
    };
    theirs.watches.with_records(|records| {
        let exposed = records.iter().filter(may_end);
        exposed.map(|record| record.id).collect()
    })
}

/// The watch, how it has ended on either side, and the first event that differs.
fn explain(ours: &WatchRecord, theirs: &WatchRecord) -> String {
    let (our, their): (Vec<_>, Vec<_>) = (comparable(ours).collect(), comparable(theirs).collect());
    let differ = |at: &usize| our.get(*at) != their.get(*at);
    let first = (0..our.len().max(their.len())).find(differ).unwrap_or(0);
    format!(
        "{:?} created at {} and {}, ended {:?} and {:?}, {} and {} events; at {first}\n    \
         {:?}\n  theirs:\n    {:?}",
        ours.request,
        ours.revision,
        theirs.revision,
        ours.end,
        theirs.end,
        our.len(),
        their.len(),
        our.get(first),
        their.get(first),
    )
}

fn same(ours: &WatchRecord, theirs: &WatchRecord) -> bool {
    let created = |record: &WatchRecord| (record.id, record.request.clone(), record.revision);
    let cancelled = ours.end == Some(WatchEnd::Cancelled);
    // etcd reads the pair before as it sends the event, and finds none if a compaction comes first.
    // Events of a watcher that is cancelled may be that late.
    let equal = |(our, their): (Event, Event)| match cancelled && their.prev_kv.is_none() {
        true => {
            Event {
                prev_kv: None,
                ..our
            } == their
        }
        false => our == their,
    };
    let pairs = comparable(ours).zip(comparable(theirs));
    let all = || comparable(ours).count() == comparable(theirs).count();
    created(ours) == created(theirs)
        && ours.end == theirs.end
        && pairs.into_iter().all(equal)
        // The client's cancellation may overtake events.
        && (cancelled || all())
}

/// The events without what differs at the revision of a compaction: etcd 3.4 no longer has its
/// deletions (etcd#19179), and ours may still have the pairs before in memory.
fn comparable(record: &WatchRecord) -> impl Iterator<Item = Event> {
    let compacted = record
        .at_compaction
        .then_some(record.request.start_revision);
    record.events.iter().filter_map(move |event| {
        let revision = event.kv.as_ref().map(|kv| kv.mod_revision);
        let mut event = event.clone();
        if revision == compacted {
            event.prev_kv = None;
        }
        let deletes = event.r#type == i32::from(EventType::Delete);
        (revision != compacted || !deletes).then_some(event)
    })
}
