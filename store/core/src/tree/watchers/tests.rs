//! The events that each watcher is sent.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::tree::{Action, ErrorCode, NodeExtern, TreeError};

/// Events that a client was sent and has not read.
#[derive(Clone, Default)]
struct Client(Rc<RefCell<(Vec<u64>, bool)>>);

impl Client {
    fn takes(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.borrow_mut().0)
    }

    fn is_behind(&self) -> bool {
        self.0.borrow().1
    }

    /// Whether the hub has dropped its end.
    fn is_over(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

/// A sink that counts every unread event as `bytes` bytes.
struct ClientSink {
    client: Client,
    bytes: usize,
}

impl Sink for ClientSink {
    fn unread(&self) -> (usize, usize) {
        let unread = self.client.0.borrow().0.len();
        (unread, unread * self.bytes)
    }

    fn send(&mut self, event: &Arc<Event>) -> bool {
        self.client.0.borrow_mut().0.push(event.index);
        self.bytes = event.node_bytes();
        true
    }

    fn end_behind(&mut self) {
        self.client.0.borrow_mut().1 = true;
    }
}

/// A history; indexes below `start` are cleared.
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

    fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Event>>, TreeError> {
        if since < self.start {
            return Err(TreeError {
                code: ErrorCode::EventIndexCleared,
                cause: Bytes::new(),
                index: self.index,
            });
        }
        let finds = |event: &&Arc<Event>| {
            let key = &event.node.key[..];
            let above = event.action == Action::Delete && path.starts_with(key);
            since <= event.index && (key == path || above || recursive && key.starts_with(path))
        };
        Ok(self.events.iter().find(finds).cloned())
    }
}

fn past(index: u64, events: &[Arc<Event>]) -> Past {
    Past {
        events: events.to_vec(),
        start: 0,
        index,
    }
}

pub(super) fn event(key: &'static str, index: u64) -> Arc<Event> {
    Arc::new(Event {
        action: Action::Set,
        node: NodeExtern {
            key: key.as_bytes().into(),
            modified: index,
            ..NodeExtern::default()
        },
        prev: None,
        index,
        refresh: false,
        removed: Vec::new(),
        encoding: Default::default(),
    })
}

fn deletion(key: &'static str, index: u64, removed: &[&'static str]) -> Arc<Event> {
    Arc::new(Event {
        action: Action::Delete,
        removed: removed.iter().map(|path| path.as_bytes().into()).collect(),
        ..Event::clone(&event(key, index))
    })
}

fn spec(path: &'static str, recursive: bool, stream: bool, since: u64) -> WatchSpec {
    WatchSpec {
        path: path.as_bytes().into(),
        recursive,
        stream,
        since,
    }
}

/// Registers a watcher after its scan. Returns its client and its number.
fn register(watchers: &mut Watchers<ClientSink>, spec: &WatchSpec, past: &Past) -> (Client, u64) {
    let scan = HistoryScan::run(spec, past).expect("kept");
    assert!(scan.waits);
    let client = Client::default();
    let sink = ClientSink {
        client: client.clone(),
        bytes: 0,
    };
    let id = watchers.register(spec, &scan, sink).expect("not closed");
    (client, id)
}

fn found(scan: &HistoryScan) -> Vec<u64> {
    scan.past.iter().rev().map(|event| event.index).collect()
}

#[test]
fn each_watcher_gets_the_events_of_its_spec() {
    let mut watchers = Watchers::default();
    let none = Past::default();
    let mut watch =
        |path, recursive| register(&mut watchers, &spec(path, recursive, true, 0), &none).0;
    let expected = [
        (watch("/1/a/b", false), vec![1, 8]),
        (watch("/1/a", false), vec![5]),
        (watch("/1/a", true), vec![1, 2, 5, 8]),
        (watch("/1", true), vec![1, 2, 4, 5, 7, 8]),
        (watch("/", true), vec![1, 2, 4, 5, 7, 8]),
        (watch("/1/_h", true), vec![3]),
        (watch("/1/d/e/f", false), vec![4]),
        (watch("/1/ab", true), vec![7]),
    ];
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
        assert_eq!(watchers.deliver(&event), 0);
    }
    for (client, indexes) in &expected {
        assert_eq!(client.takes(), *indexes);
    }
    assert_eq!(watchers.close(), expected.len());
    assert!(expected.iter().all(|(client, _)| client.is_over()));
}

#[test]
fn without_a_stream_there_is_one_event() {
    let mut watchers = Watchers::default();
    let (client, id) = register(
        &mut watchers,
        &spec("/1/a", false, false, 0),
        &Past::default(),
    );
    assert_eq!(watchers.deliver(&event("/1/b", 1)), 0);
    assert_eq!(watchers.deliver(&event("/1/a", 2)), 1);
    assert_eq!(watchers.deliver(&event("/1/a", 3)), 0);
    assert_eq!(client.takes(), [2]);
    assert!(client.is_over() && watchers.is_empty());
    assert!(!watchers.unregister(&Bytes::from_static(b"/1/a"), id));
}

#[test]
fn the_past_comes_first_and_nothing_twice() {
    let mut watchers = Watchers::default();
    let events = [event("/1/a", 5), event("/1/b", 6), event("/1/a", 7)];
    let history = Past {
        start: 5,
        ..past(7, &events)
    };
    let once = HistoryScan::run(&spec("/1/a", false, false, 5), &history).expect("kept");
    assert_eq!((found(&once), once.waits, once.index), (vec![5], false, 7));
    let streamed = spec("/1/a", false, true, 5);
    assert_eq!(
        found(&HistoryScan::run(&streamed, &history).expect("kept")),
        [5, 7]
    );
    let cleared = HistoryScan::run(&spec("/1/a", false, false, 4), &history);
    let code = cleared.map_err(|error| error.code).err();
    assert_eq!(code, Some(ErrorCode::EventIndexCleared));
    let (stream, _) = register(&mut watchers, &streamed, &history);
    let (later, _) = register(&mut watchers, &spec("/1/a", false, false, 9), &history);
    // The first of them was applied before the scans, and was in the queue.
    for event in [&events[2], &event("/1/a", 8), &event("/1/a", 9)] {
        watchers.deliver(event);
    }
    assert_eq!(stream.takes(), [8, 9]);
    assert_eq!(later.takes(), [9]);
}

#[test]
fn a_stream_that_is_too_far_behind_ends_after_what_it_was_sent() {
    let mut watchers = Watchers::default();
    let all = spec("/1", true, true, 0);
    let (slow, _) = register(&mut watchers, &all, &Past::default());
    let (fast, _) = register(&mut watchers, &all, &Past::default());
    let last = STREAM_EVENTS_MAX as u64;
    for index in 1..=last {
        assert_eq!(watchers.deliver(&event("/1/a", index)), 0);
        assert_eq!(fast.takes(), [index]);
    }
    assert_eq!(watchers.deliver(&event("/1/a", last + 1)), 1);
    assert!(slow.is_behind() && slow.is_over() && !fast.is_over());
    assert_eq!(slow.takes(), (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_stream_is_bounded_in_bytes_too_but_takes_one_event_of_any_size() {
    let mut watchers = Watchers::default();
    let (client, _) = register(&mut watchers, &spec("/1", true, true, 0), &Past::default());
    let large = |index| {
        let mut large = Event::clone(&event("/1/a", index));
        large.node.value = Some(vec![b'x'; STREAM_BYTES_MAX / 2 + 1].into());
        Arc::new(large)
    };
    assert_eq!(watchers.deliver(&large(1)), 0);
    assert_eq!(client.takes(), [1]);
    assert_eq!(watchers.deliver(&large(2)), 0);
    assert_eq!(watchers.deliver(&large(3)), 1);
    assert_eq!(client.takes(), [2]);
    assert!(client.is_behind());
}

#[test]
fn a_snapshot_brings_what_was_missed_once_or_cuts() {
    let mut watchers = Watchers::default();
    let (stream, _) = register(&mut watchers, &spec("/1/a", false, true, 0), &past(3, &[]));
    let (once, _) = register(&mut watchers, &spec("/1/a", false, false, 0), &past(3, &[]));
    let (future, _) = register(
        &mut watchers,
        &spec("/1/a", false, false, 20),
        &past(3, &[]),
    );
    let missed = [event("/1/a", 4), event("/1/b", 5), event("/1/a", 6)];
    assert_eq!(watchers.resume(&past(6, &missed)), 1);
    assert_eq!(stream.takes(), [4, 6]);
    assert_eq!(once.takes(), [4]);
    // One that was applied before the snapshot and is still queued.
    watchers.deliver(&missed[0]);
    watchers.deliver(&event("/1/a", 7));
    assert_eq!(stream.takes(), [7]);
    let gap = Past {
        start: 9,
        ..past(10, &[event("/1/a", 9)])
    };
    assert_eq!(watchers.resume(&gap), 1, "8 may be missing");
    assert!(stream.is_over() && !stream.is_behind());
    assert!(!future.is_over());
    watchers.deliver(&event("/1/a", 20));
    assert_eq!(future.takes(), [20]);
}

/// The index of the wrong tree was higher, and later events of the right one were not delivered.
#[test]
fn a_tree_that_was_wrong_leaves_no_watch_and_no_index() {
    let mut watchers = Watchers::default();
    let all = spec("/1/a", false, true, 0);
    let (wrong, _) = register(&mut watchers, &all, &Past::default());
    watchers.deliver(&event("/1/a", 9));
    assert_eq!(watchers.begin_again(&past(4, &[])), 1);
    assert!(wrong.is_over());
    let (right, _) = register(&mut watchers, &all, &past(4, &[]));
    watchers.deliver(&event("/1/a", 5));
    assert_eq!(right.takes(), [5]);
}

/// A scan of the history for such a watcher finds these events, although it was not to be sent
/// them.
#[test]
fn hidden_nodes_stay_hidden_when_a_snapshot_is_installed() {
    let mut watchers = Watchers::default();
    let (client, _) = register(&mut watchers, &spec("/1", true, true, 0), &Past::default());
    let hidden = [event("/1/_h/x", 1), event("/1/_h/x", 2)];
    watchers.deliver(&hidden[0]);
    watchers.resume(&past(2, &hidden));
    assert!(client.takes().is_empty());
}

/// Its long poll was ended although no event was missed: the history was scanned again from its
/// waitIndex.
#[test]
fn a_watcher_of_the_past_needs_no_more_of_it_than_was_missed() {
    for delivered in [3, 4] {
        let mut watchers = Watchers::default();
        let late = spec("/1/a", false, false, 2);
        let (client, _) = register(&mut watchers, &late, &past(3, &[]));
        if delivered == 4 {
            watchers.deliver(&event("/1/b", 4));
        }
        let later = Past {
            start: delivered + 1,
            ..past(6, &[event("/1/a", 6)])
        };
        assert_eq!(watchers.resume(&later), 1);
        assert_eq!(client.takes(), [6]);
    }
}

#[test]
fn the_end_of_a_directory_with_a_similar_name_is_not_sent_after_a_snapshot() {
    let mut watchers = Watchers::default();
    let none = Past::default();
    let (similar, _) = register(&mut watchers, &spec("/1/ab", false, true, 0), &none);
    let (below, _) = register(&mut watchers, &spec("/1/a/b", false, true, 0), &none);
    watchers.resume(&past(1, &[deletion("/1/a", 1, &["/1/a/b"])]));
    assert!(similar.takes().is_empty());
    assert_eq!(below.takes(), [1]);
}

#[test]
fn a_watcher_that_leaves_is_forgotten() {
    let mut watchers = Watchers::default();
    let all = spec("/1", true, true, 0);
    let (one, first) = register(&mut watchers, &all, &Past::default());
    let (two, second) = register(&mut watchers, &all, &Past::default());
    assert!(watchers.unregister(&all.path, first));
    assert!(one.is_over() && !two.is_over());
    assert!(watchers.unregister(&all.path, second));
    assert!(watchers.is_empty());
    assert!(!watchers.unregister(&all.path, second));
}

#[test]
fn after_the_end_no_watcher_is_registered() {
    let mut watchers = Watchers::default();
    let all = spec("/1", true, true, 0);
    let (one, _) = register(&mut watchers, &all, &Past::default());
    assert_eq!(watchers.close(), 1);
    assert!(one.is_over());
    let scan = HistoryScan::run(&all, &Past::default()).expect("kept");
    let late = Client::default();
    let sink = ClientSink {
        client: late.clone(),
        bytes: 0,
    };
    assert_eq!(watchers.register(&all, &scan, sink), None);
    assert!(late.is_over());
}

#[test]
fn hidden_is_what_lies_between_the_watched_and_the_key() {
    let cases = [
        ("/1", "/1/_a", true),
        ("/1", "/1/a/_b/c", true),
        ("/1/_a", "/1/_a/b", false),
        ("/1/a", "/1/a", false),
        ("/1", "/1/a_b", false),
        ("/", "/_a", true),
    ];
    for (path, key, hidden) in cases {
        assert_eq!(
            is_hidden_below(path.as_bytes(), key.as_bytes()),
            hidden,
            "{path} {key}"
        );
    }
}
