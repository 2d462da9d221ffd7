//! Which watcher receives which events.

use std::time::Duration;

use keelson_core::tree::watchers::{QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX, STREAM_EVENTS_MAX};
use keelson_core::tree::{Action, ErrorCode, NodeExtern};

use super::*;

/// A history of events; indexes below `start` are not kept.
#[derive(Default)]
struct Past {
    events: Vec<Arc<Event>>,
    start: u64,
    index: u64,
}

impl History for Past {
    fn index(&self) -> u64 {
        self.index
    }

    fn scan(&self, path: &[u8], _: bool, since: u64) -> Result<Option<Arc<Event>>, TreeError> {
        if since < self.start {
            return Err(TreeError {
                code: ErrorCode::EventIndexCleared,
                cause: Bytes::new(),
                index: self.index,
            });
        }
        let mut later = self.events.iter().filter(|event| since <= event.index);
        Ok(later
            .find(|event| event.node.key.starts_with(path))
            .cloned())
    }
}

fn event(key: &str, index: u64) -> Arc<Event> {
    deletion(key, index, &[])
}

fn deletion(key: &str, index: u64, removed: &[&str]) -> Arc<Event> {
    Arc::new(Event {
        action: Action::Set,
        node: NodeExtern {
            key: Bytes::copy_from_slice(key.as_bytes()),
            modified: index,
            ..NodeExtern::default()
        },
        prev: None,
        index,
        refresh: false,
        removed: removed
            .iter()
            .map(|path| Bytes::copy_from_slice(path.as_bytes()))
            .collect(),
        encoding: std::sync::OnceLock::new(),
    })
}

fn spec(path: &'static str, recursive: bool, stream: bool, since: u64) -> WatchSpec {
    WatchSpec {
        path: Bytes::from_static(path.as_bytes()),
        recursive,
        stream,
        since,
    }
}

fn hub() -> Arc<Hub> {
    let (hub, delivery) = Hub::new();
    tokio::spawn(delivery);
    hub
}

async fn next_index(watch: &mut Watch) -> Option<u64> {
    let next = tokio::time::timeout(Duration::from_secs(10), watch.next());
    next.await.expect("in time").map(|event| event.index)
}

#[tokio::test]
async fn each_watch_gets_its_events() {
    let hub = hub();
    let past = Past::default();
    let watch = |path, recursive| {
        hub.watch(spec(path, recursive, true, 0), &past)
            .expect("new")
    };
    let mut key = watch("/1/a/b", false);
    let mut dir = watch("/1/a", false);
    let mut below = watch("/1/a", true);
    let mut all = watch("/1", true);
    let mut inside_hidden = watch("/1/_h", true);
    let mut gone_with_it = watch("/1/d/e/f", false);
    let mut neighbour = watch("/1/ab", true);
    assert_eq!(hub.count(), 7);
    for event in [
        event("/1/a/b", 1),
        event("/1/a/b/c", 2),
        event("/1/_h/x", 3),
        deletion("/1/d", 4, &["/1/d/e", "/1/d/e/f"]),
        event("/1/a", 5),
        event("/1/ab/_x", 6),
        event("/1/ab", 7),
        event("/1/a/b", 8),
    ] {
        hub.publish(&event);
    }
    for (watch, expected) in [
        (&mut key, &[1, 8][..]),
        (&mut dir, &[5]),
        (&mut below, &[1, 2, 5, 8]),
        (&mut all, &[1, 2, 4, 5, 7, 8]),
        (&mut inside_hidden, &[3]),
        (&mut gone_with_it, &[4]),
        (&mut neighbour, &[7]),
    ] {
        for index in expected {
            assert_eq!(next_index(watch).await, Some(*index));
        }
    }
    hub.cut_all();
    for mut watch in [key, dir, below, all, inside_hidden, gone_with_it, neighbour] {
        assert_eq!(next_index(&mut watch).await, None, "nothing more");
    }
    assert_eq!(hub.count(), 0);
    // A watch that was registered later waited for ever.
    let late = hub.watch(spec("/1/a", false, true, 0), &Past::default());
    assert_eq!(
        next_index(&mut late.expect("new")).await,
        None,
        "it is the end"
    );
    assert_eq!(hub.count(), 0);
}

#[tokio::test]
async fn one_event_and_no_more_without_a_stream() {
    let hub = hub();
    let mut watch = hub
        .watch(spec("/1/a", false, false, 0), &Past::default())
        .expect("new");
    hub.publish(&event("/1/a", 1));
    hub.publish(&event("/1/a", 2));
    assert_eq!(next_index(&mut watch).await, Some(1));
    assert_eq!(next_index(&mut watch).await, None);
    assert_eq!(hub.count(), 0);
}

/// A tree that changes right after its history was read, as the applier may change it.
struct Moving {
    hub: Arc<Hub>,
}

impl History for Moving {
    fn index(&self) -> u64 {
        6
    }

    fn scan(&self, _: &[u8], _: bool, _: u64) -> Result<Option<Arc<Event>>, TreeError> {
        self.hub.publish(&event("/a", 7));
        Ok(None)
    }
}

#[tokio::test]
async fn nothing_is_missed_between_the_history_and_the_first_watchers_entry() {
    for stream in [false, true] {
        let hub = hub();
        let moving = Moving {
            hub: Arc::clone(&hub),
        };
        let mut watch = hub.watch(spec("/a", false, stream, 7), &moving).unwrap();
        let received = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
        assert_eq!(received.unwrap().unwrap().index, 7);
        drop(watch);
        assert_eq!(hub.count(), 0);
    }
}

#[tokio::test]
async fn the_past_comes_first_and_nothing_twice() {
    let hub = hub();
    let past = Past {
        events: vec![event("/1/a", 5), event("/1/b", 6), event("/1/a", 7)],
        start: 5,
        index: 7,
    };
    let mut once = hub
        .watch(spec("/1/a", false, false, 5), &past)
        .expect("there");
    let mut stream = hub
        .watch(spec("/1/a", false, true, 5), &past)
        .expect("there");
    let mut later = hub
        .watch(spec("/1/a", false, false, 9), &past)
        .expect("the future");
    assert_eq!((once.index, hub.count()), (7, 2));
    // The event was in the history already when the two registered.
    for event in [&past.events[2], &event("/1/a", 8), &event("/1/a", 9)] {
        hub.publish(event);
    }
    assert_eq!(once.now().map(|event| event.index), Some(5));
    assert_eq!(next_index(&mut once).await, None);
    for index in [5, 7, 8, 9] {
        assert_eq!(next_index(&mut stream).await, Some(index));
    }
    assert_eq!(next_index(&mut later).await, Some(9));
    let refused = hub.watch(spec("/1/a", false, false, 4), &past).err();
    assert_eq!(refused.expect("cleared").code, ErrorCode::EventIndexCleared);
}

#[tokio::test]
async fn a_watcher_that_does_not_keep_up_ends_as_in_etcd() {
    let hub = hub();
    let mut slow = hub
        .watch(spec("/1", true, true, 0), &Past::default())
        .expect("new");
    for index in 1..=STREAM_EVENTS_MAX as u64 + 1 {
        hub.publish(&event("/1/a", index));
        hub.deliver_next();
    }
    assert_eq!(hub.count(), 0);
    for index in 1..=STREAM_EVENTS_MAX as u64 {
        assert_eq!(next_index(&mut slow).await, Some(index));
    }
    assert_eq!(slow.end(), None);
    assert_eq!(next_index(&mut slow).await, None);
    assert_eq!(slow.end(), Some(WatchEnd::Behind));
}

#[tokio::test]
async fn a_stream_that_is_far_behind_in_bytes_ends_too() {
    let hub = hub();
    let stream = || hub.watch(spec("/1", true, true, 0), &Past::default());
    let (mut slow, mut fast) = (stream().expect("new"), stream().expect("new"));
    let value = Bytes::from(vec![b'x'; 8 << 20]);
    for index in 1..=20 {
        let mut large = Event::clone(&event("/1/a", index));
        large.node.value = Some(value.clone());
        hub.publish(&Arc::new(large));
        assert_eq!(next_index(&mut fast).await, Some(index));
    }
    assert_eq!(hub.count(), 1, "the one that reads");
    let mut got = 0;
    while next_index(&mut slow).await.is_some() {
        got += 1;
    }
    assert_eq!(got, 7, "seven of eight MiB and a bit");
    assert_eq!(slow.end(), Some(WatchEnd::Behind));
}

/// The fan-out task never runs during this test.
#[tokio::test]
async fn a_burst_beyond_the_queue_costs_an_unrelated_watcher_nothing() {
    let (hub, delivery) = Hub::new();
    let past = Past::default();
    let watch = |path, stream| hub.watch(spec(path, true, stream, 0), &past).expect("new");
    let mut poll = watch("/1/quiet", false);
    let mut stream = watch("/1/quiet", true);
    let mut busy = watch("/1/busy", false);
    for index in 1..=3 * QUEUE_EVENTS_MAX as u64 {
        hub.publish(&event("/1/busy", index));
    }
    assert!(hub.queue.lock().len() < QUEUE_EVENTS_MAX);
    assert_eq!(hub.count(), 2, "only the watch of what happened is over");
    assert_eq!(next_index(&mut busy).await, Some(1));
    tokio::spawn(delivery);
    let next = 3 * QUEUE_EVENTS_MAX as u64 + 1;
    hub.publish(&event("/1/quiet", next));
    assert_eq!(next_index(&mut poll).await, Some(next));
    assert_eq!(next_index(&mut stream).await, Some(next));
}

/// The publisher is the applier, and the whole log waits for it.
#[tokio::test]
async fn a_full_queue_costs_its_publisher_one_event_and_not_the_whole_queue() {
    let (hub, _delivery) = Hub::new();
    let _watch = hub.watch(spec("/1/quiet", true, true, 0), &Past::default());
    let length = || hub.queue.lock().len();
    for index in 1..=3 * QUEUE_EVENTS_MAX as u64 {
        let before = length();
        hub.publish(&event("/1/busy", index));
        let delivered = before + 1 - length();
        assert!(delivered <= 1, "{delivered} of {before} for event {index}");
    }
}

#[tokio::test]
async fn large_events_in_the_queue_are_bounded_in_bytes() {
    let (hub, _delivery) = Hub::new();
    let _watch = hub.watch(spec("/1/quiet", true, true, 0), &Past::default());
    let value = Bytes::from(vec![b'x'; QUEUE_BYTES_MAX / 8]);
    for index in 1..=20 {
        let mut large = Event::clone(&event("/1/busy", index));
        large.node.value = Some(value.clone());
        hub.publish(&Arc::new(large));
        assert!(hub.queue.lock().bytes() < QUEUE_BYTES_MAX);
    }
}

#[tokio::test]
async fn a_dropped_watch_is_unregistered() {
    let hub = hub();
    let one = hub
        .watch(spec("/1", true, true, 0), &Past::default())
        .expect("new");
    let two = hub
        .watch(spec("/1", true, false, 0), &Past::default())
        .expect("new");
    drop(one);
    assert_eq!(hub.count(), 1);
    drop(two);
    assert_eq!(hub.count(), 0);
    assert!(hub.watchers.lock().is_empty());
}

#[tokio::test]
async fn a_snapshot_brings_what_was_missed_or_cuts() {
    let hub = hub();
    let before = Past {
        index: 3,
        ..Past::default()
    };
    let mut stream = hub
        .watch(spec("/1/a", false, true, 0), &before)
        .expect("waits");
    let after = Past {
        events: vec![event("/1/a", 4), event("/1/a", 6)],
        start: 3,
        index: 6,
    };
    hub.resume(&after);
    assert_eq!(next_index(&mut stream).await, Some(4));
    assert_eq!(next_index(&mut stream).await, Some(6));
    assert_eq!(hub.count(), 1);
    let gap = Past {
        start: 8,
        index: 9,
        ..Past::default()
    };
    hub.resume(&gap);
    assert_eq!(
        next_index(&mut stream).await,
        None,
        "7 is not in the new history"
    );
    assert_eq!(
        stream.end(),
        Some(WatchEnd::Cut),
        "the client must repeat the watch"
    );
    assert_eq!(hub.count(), 0);
}

/// Ten thousand long polls may wait, so a stream's state is boxed.
#[test]
fn a_waiters_channel_is_two_words() {
    assert!(size_of::<Channel>() <= 2 * size_of::<usize>());
}
