//! What watches with `prev_kv` hold of the pairs before: they are far larger than deletions.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, WatchCreateRequest};

use super::harness::Machine;
use super::watches::request;
use crate::state::auth::Caller;
use crate::watch::{WatchContent, WatchHub, WatchLimits, WatchStream};

const KEYS: i64 = 500;
const VALUE_BYTES: usize = 20_000;
const PREVIOUS_BYTES: usize = 1 << 20;

/// A machine with large values, and a hub that keeps at most 1 MiB of pairs.
fn begin() -> (Machine, Arc<WatchHub>) {
    let mut machine = Machine::new();
    for number in 0..KEYS {
        let put = PutRequest {
            key: key(number),
            value: vec![b'v'; VALUE_BYTES].into(),
            ..PutRequest::default()
        };
        machine.put(put).unwrap();
    }
    machine.flush();
    let limits = WatchLimits {
        previous_bytes: PREVIOUS_BYTES,
        ..WatchLimits::default()
    };
    let hub = WatchHub::with_limits(machine.state.view(), limits);
    (machine, hub)
}

fn key(number: i64) -> Bytes {
    format!("k{number:03}").into()
}

fn stream(hub: &Arc<WatchHub>) -> WatchStream {
    let mut stream = hub.stream(Arc::new(Caller::Member), || {});
    stream.create(WatchCreateRequest {
        prev_kv: true,
        ..request(0)
    });
    stream
}

/// Deletes a key, and delivers that.
fn delete(machine: &mut Machine, hub: &WatchHub, number: i64) {
    let request = DeleteRangeRequest {
        key: key(number),
        ..DeleteRangeRequest::default()
    };
    assert_eq!(machine.delete(request).deleted, 1);
    while hub.fan_out().unwrap() {}
}

/// Reads what a stream has. Returns the number of events with a pair before.
fn read(stream: &mut WatchStream) -> usize {
    let mut previous = 0;
    while let Some(message) = stream.next().unwrap() {
        if let WatchContent::Events { events, .. } = message.content {
            let events = events.iter().map(|event| event.message());
            previous += events.filter(|event| event.prev_kv.is_some()).count();
        }
    }
    previous
}

/// The rows of all keys.
fn rows(machine: &Machine) -> Vec<Bytes> {
    let view = machine.state.view();
    let row = |number| view.previous(&key(number), view.revision() + 1);
    (0..KEYS)
        .map(|number| row(number).unwrap().unwrap())
        .collect()
}

/// Releases all rows that the state machine has deleted.
fn compact(machine: &mut Machine) {
    let revision = machine.state.view().revision();
    machine.compact(revision).unwrap();
    machine.sweep();
    machine.flush();
    machine.flush();
}

/// The bytes of these rows in use, after the state machine has released them.
fn held(rows: &[Bytes]) -> usize {
    let held = rows.iter().filter(|row| !row.is_unique());
    held.map(Bytes::len).sum()
}

/// Each event counted 150 bytes among the recent revisions, and held the pair before it.
#[test]
fn deletions_that_a_watcher_has_read_hold_a_bounded_part_of_the_pairs_before() {
    let (mut machine, hub) = begin();
    let rows = rows(&machine);
    let mut watcher = stream(&hub);
    let mut previous = 0;
    for number in 0..KEYS {
        delete(&mut machine, &hub, number);
        previous += read(&mut watcher);
    }
    assert_eq!(previous, KEYS as usize);
    compact(&mut machine);
    let kept = held(&rows);
    assert!((1..=PREVIOUS_BYTES).contains(&kept), "{kept} bytes");
    drop(watcher);
    assert_eq!(held(&rows), 0);
}

/// The mailbox of a stream that is not read shares its events with one that is.
#[test]
fn deletions_that_a_stream_has_not_read_hold_a_bounded_part_of_the_pairs_before() {
    let (mut machine, hub) = begin();
    let rows = rows(&machine);
    let (mut watcher, mut later, unread) = (stream(&hub), stream(&hub), stream(&hub));
    read(&mut later);
    for number in 0..KEYS {
        delete(&mut machine, &hub, number);
        assert_eq!(read(&mut watcher), 1);
    }
    // No revision was dropped. Of the pairs, few are in memory: the others are read again.
    assert_eq!(hub.counts().slow_streams, 0);
    assert_eq!(read(&mut later), KEYS as usize);
    assert_eq!(hub.counts().waiting, KEYS as usize);
    compact(&mut machine);
    let kept = held(&rows);
    assert!(kept <= PREVIOUS_BYTES, "{kept} bytes");
    drop(unread);
}
