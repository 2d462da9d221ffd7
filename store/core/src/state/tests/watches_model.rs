//! What watchers must be sent, and a check of what they were sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::event::EventType;
use keelson_proto::mvccpb::{Event, KeyValue};
use prost::Message;

use crate::watch::{FrameBuffer, HeaderFields, WatchMessage, WatchRange};

/// One watcher of the test.
pub(super) struct Watched {
    range: WatchRange,
    start: i64,
    puts: bool,
    deletes: bool,
    previous: bool,
    created: bool,
    /// The events so far.
    got: Vec<Event>,
    pub(super) over: bool,
}

/// Every event so far, and the watchers of a stream.
pub(super) struct Model {
    /// The live pairs.
    pairs: BTreeMap<Bytes, KeyValue>,
    /// All events with the pair before, in order.
    history: Vec<Event>,
    pub(super) compacted: i64,
    pub(super) watchers: BTreeMap<i64, Watched>,
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            pairs: BTreeMap::new(),
            history: Vec::new(),
            compacted: -1,
            watchers: BTreeMap::new(),
        }
    }

    pub(super) fn put(&mut self, revision: i64, key: &Bytes, value: &Bytes) {
        let before = self.pairs.get(key).cloned();
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            mod_revision: revision,
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        self.pairs.insert(key.clone(), kv.clone());
        self.history.push(Event {
            r#type: EventType::Put.into(),
            kv: Some(kv),
            prev_kv: before,
        });
    }

    pub(super) fn delete(&mut self, revision: i64, key: &Bytes) {
        let Some(before) = self.pairs.remove(key) else {
            return;
        };
        self.history.push(Event {
            r#type: EventType::Delete.into(),
            kv: Some(KeyValue {
                key: key.clone(),
                mod_revision: revision,
                ..KeyValue::default()
            }),
            prev_kv: Some(before),
        });
    }

    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.pairs.keys().cloned().collect()
    }

    /// The client creates a watcher.
    pub(super) fn create(&mut self, request: &WatchCreateRequest) {
        let range = WatchRange::new(&request.key, &request.range_end);
        let lacks =
            |filter: watch_create_request::FilterType| !request.filters.contains(&filter.into());
        self.watchers.insert(
            request.watch_id,
            Watched {
                range: range.expect("not empty"),
                start: request.start_revision,
                puts: lacks(watch_create_request::FilterType::Noput),
                deletes: lacks(watch_create_request::FilterType::Nodelete),
                previous: request.prev_kv,
                created: false,
                got: Vec::new(),
                over: false,
            },
        );
    }

    /// The stream has sent a message.
    pub(super) fn receive(&mut self, message: &WatchMessage, frames: &mut FrameBuffer) {
        let header = ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 7,
            raft_term: 3,
            revision: 0,
        };
        let response = message.response(header);
        frames.push(message, &HeaderFields::new(header));
        let frame = frames.take().concat();
        assert_eq!(frame[0], 0);
        assert_eq!(
            u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize + 5,
            frame.len()
        );
        assert_eq!(WatchResponse::decode(&frame[5..]).unwrap(), response);
        let at = response.header.expect("a header").revision;
        if response.watch_id == -1 {
            self.check_progress(at);
            return;
        }
        let compacted = self.compacted;
        let watcher = self
            .watchers
            .get_mut(&response.watch_id)
            .expect("it exists");
        assert!(!watcher.over, "a message after the end");
        if response.created {
            assert!(!watcher.created);
            watcher.created = true;
            if watcher.start == 0 {
                watcher.start = at + 1;
            }
        } else if response.canceled {
            watcher.over = true;
            if response.compact_revision != 0 {
                assert!(response.compact_revision <= compacted);
                self.check_compacted(response.watch_id, response.compact_revision);
            }
        } else if response.events.is_empty() {
            self.check_progress_of(response.watch_id, at);
        } else {
            assert!(watcher.created, "an event before the watch was created");
            assert!(revision(response.events.last().unwrap()) <= at);
            watcher.got.extend(response.events);
        }
    }

    fn expected(&self, watcher: &Watched, upto: i64) -> Vec<Event> {
        let start = watcher.start;
        let span = self.history.iter().filter(|event| {
            let kv = event.kv.as_ref().expect("a pair");
            let is_put = event.r#type == i32::from(EventType::Put);
            start <= kv.mod_revision
                && kv.mod_revision <= upto
                && watcher.range.contains(&kv.key)
                && if is_put {
                    watcher.puts
                } else {
                    watcher.deletes
                }
        });
        span.cloned().collect()
    }

    fn check_progress(&self, upto: i64) {
        for (id, watcher) in &self.watchers {
            if !watcher.over {
                self.check_progress_of(*id, upto);
            }
        }
    }

    fn check_progress_of(&self, id: i64, upto: i64) {
        let watcher = &self.watchers[&id];
        assert!(watcher.start <= upto + 1, "etcd#20221");
        self.check_events(watcher, upto);
    }

    /// A watcher that was cancelled needed an event that was compacted, and has all before it.
    fn check_compacted(&self, id: i64, compacted: i64) {
        let watcher = &self.watchers[&id];
        let last = watcher.got.last().map_or(0, revision);
        self.check_events(watcher, last);
        assert!(watcher.start < compacted);
    }

    fn check_events(&self, watcher: &Watched, upto: i64) {
        let expected = self.expected(watcher, upto);
        let got: Vec<_> = watcher
            .got
            .iter()
            .filter(|event| revision(event) <= upto)
            .collect();
        let plain = |event: &Event| (event.r#type, event.kv.clone());
        let (left, right): (Vec<_>, Vec<_>) = (
            expected.iter().map(plain).collect(),
            got.iter().map(|event| plain(event)).collect(),
        );
        assert_eq!(
            right, left,
            "got, expected from {} to {upto}",
            watcher.start
        );
        for (expected, got) in expected.iter().zip(got) {
            match &got.prev_kv {
                Some(_) => {
                    assert!(watcher.previous);
                    assert_eq!(got.prev_kv, expected.prev_kv);
                }
                None => {
                    let compacted = revision(expected) <= self.compacted;
                    assert!(!watcher.previous || expected.prev_kv.is_none() || compacted);
                }
            }
        }
    }

    /// Everything has been sent.
    pub(super) fn check_all(&self, upto: i64) {
        for watcher in self.watchers.values().filter(|watcher| !watcher.over) {
            assert!(watcher.created);
            self.check_events(watcher, upto);
        }
    }
}
