//! Watches against a model: every event once, in order, and whole revisions, however slow the
//! streams and the fan-out are, with compactions and replaced states in between.

use proptest::collection::vec;
use proptest::prelude::*;

use super::harness::*;
use super::requests::{op_delete, op_put, txn};
use super::watches_model::Model;
use super::watches_steps::{Step, step};
use crate::engine::MemoryEngine;
use crate::state::auth::Caller;
use crate::state::*;
use crate::watch::{FrameBuffer, MailboxLimits, WatchContent, WatchHub, WatchLimits, WatchStream};
use keelson_proto::etcdserverpb::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn key(number: u8) -> Bytes {
    Bytes::from(format!("k{number}"))
}

/// A machine, its hub and one stream.
pub(super) struct Run {
    pub(super) machine: Machine,
    pub(super) hub: Arc<WatchHub>,
    pub(super) stream: WatchStream,
    /// The stream may have a message.
    woken: Arc<AtomicBool>,
    model: Model,
    frames: FrameBuffer,
    next_id: i64,
}

impl Run {
    pub(super) fn new(limits: WatchLimits) -> Run {
        let machine = Machine::new();
        let hub = WatchHub::with_limits(machine.state.view(), limits);
        let woken = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&woken);
        let mut stream = hub.stream(Arc::new(Caller::Member), move || {
            flag.store(true, Ordering::Relaxed);
        });
        stream.set_fragment_bytes(700);
        Run {
            machine,
            hub,
            stream,
            woken,
            model: Model::new(),
            frames: FrameBuffer::default(),
            next_id: 100,
        }
    }

    fn revision(&self) -> i64 {
        self.machine.state.view().revision()
    }

    pub(super) fn put(&mut self, number: u8, bytes: u16) {
        let value = Bytes::from(vec![number; usize::from(bytes)]);
        let request = PutRequest {
            key: key(number),
            value: value.clone(),
            ..PutRequest::default()
        };
        self.machine.put(request).expect("accepted");
        self.model.put(self.revision(), &key(number), &value);
    }

    pub(super) fn delete(&mut self, from: u8, to: u8) {
        let range_end = match to {
            0 => Bytes::new(),
            to => key(to),
        };
        self.machine.delete(DeleteRangeRequest {
            key: key(from),
            range_end: range_end.clone(),
            prev_kv: false,
        });
        let revision = self.revision();
        for other in self.model.keys() {
            let inside = match to {
                0 => other == key(from),
                _ => key(from) <= other && other < range_end,
            };
            if inside {
                self.model.delete(revision, &other);
            }
        }
    }

    fn txn(&mut self, one: u8, other: u8) {
        let put = |number| RequestOp {
            request: Some(request_op::Request::RequestPut(PutRequest {
                key: key(number),
                value: Bytes::from_static(b"txn"),
                ..PutRequest::default()
            })),
        };
        let mut numbers = vec![one, other];
        numbers.dedup();
        let request = TxnRequest {
            success: numbers.iter().map(|number| put(*number)).collect(),
            ..TxnRequest::default()
        };
        self.machine.txn(request).expect("accepted");
        let revision = self.revision();
        for number in numbers {
            self.model
                .put(revision, &key(number), &Bytes::from_static(b"txn"));
        }
    }

    fn create(&mut self, from: u8, end: u8, start: i8, flags: u8) {
        let range_end = match end {
            0 => Bytes::new(),
            7 => Bytes::from_static(b"\0"),
            end if end <= from => Bytes::new(),
            end => key(end),
        };
        let start_revision = match start {
            3 => 0,
            ahead => (self.revision() + i64::from(ahead)).max(1),
        };
        let filters = match flags & 7 {
            0 => vec![0],
            1 => vec![1],
            _ => vec![],
        };
        let request = WatchCreateRequest {
            key: key(from),
            range_end,
            start_revision,
            filters,
            progress_notify: flags & 8 != 0,
            prev_kv: flags & 16 != 0,
            fragment: flags & 32 != 0,
            watch_id: self.next_id,
        };
        self.next_id += 1;
        self.model.create(&request);
        self.stream.create(request);
    }

    fn cancel(&mut self, back: u8) {
        self.stream.cancel(self.next_id - i64::from(back));
    }

    /// Reads messages; without a number, all that there are.
    fn pump(&mut self, most: Option<u8>) {
        for _ in 0..most.map_or(usize::MAX, usize::from) {
            self.woken.store(false, Ordering::Relaxed);
            match self.stream.next().expect("the engine works") {
                Some(message) => self.model.receive(&message, &mut self.frames),
                None if most.is_none() && self.woken.load(Ordering::Relaxed) => {}
                None => break,
            }
        }
    }

    pub(super) fn replace(&mut self) {
        let engine = Arc::new(MemoryEngine::new());
        let mut builder = SnapshotBuilder::new(engine.clone());
        let mut capture = self.machine.state.capture().expect("works");
        while let Some(chunk) = capture.next_chunk(1000).expect("works") {
            use keelson_proto::peer::snapshot_chunk::Part;
            match chunk.part.expect("a part") {
                Part::Rows(rows) => builder.push(rows).expect("known"),
                Part::End(end) => {
                    builder.finish(end).expect("complete");
                    break;
                }
                Part::Offer(_) => {}
            }
        }
        let state = StateMachine::open(engine.clone(), Limits::default()).expect("valid");
        self.machine.engine = engine;
        self.machine.state = state.expect("not empty");
        self.hub.replace_view(self.machine.state.view());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(number, bytes) => self.put(number, bytes),
            Step::Delete(from, to) => self.delete(from, to),
            Step::Txn(one, other) => self.txn(one, other),
            Step::Compact(back) => {
                let revision = self.revision() - i64::from(back);
                if self.machine.compact(revision).is_ok() {
                    self.model.compacted = revision;
                }
            }
            Step::Sweep => {
                let to = self.machine.state.compacting_to();
                if to.is_some_and(|revision| self.hub.has_delivered(revision)) {
                    self.machine.sweep();
                }
            }
            Step::Flush => self.machine.flush(),
            Step::FanOut => drop(self.hub.fan_out().expect("the engine works")),
            Step::Create(from, end, start, flags) => self.create(from, end, start, flags),
            Step::Cancel(back) => self.cancel(back),
            Step::Pump(most) => self.pump(Some(most)),
            Step::Progress => self.stream.request_progress(),
            Step::Notify => self.stream.notify_progress(),
            Step::Replace => self.replace(),
        }
    }

    fn finish(&mut self) {
        while self.hub.fan_out().expect("the engine works") {}
        self.pump(None);
        self.model.check_all(self.revision());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_watcher_is_sent_all_of_its_events_once_and_in_order(
        steps in vec(step(), 1..120),
        mailbox in prop_oneof![Just(1usize), Just(1000), Just(1 << 20)],
        recent_bytes in prop_oneof![Just(0usize), Just(1000), Just(1 << 20)],
        rows in prop_oneof![Just(1usize), Just(3), Just(1000)],
    ) {
        let mailboxes = MailboxLimits { each_min: mailbox, each_max: mailbox, all_max: mailbox };
        let mut run = Run::new(WatchLimits {
            mailboxes,
            recent_bytes,
            previous_bytes: recent_bytes,
            fan_out_rows: rows,
            history_rows: rows,
        });
        for step in steps {
            run.step(step);
        }
        run.finish();
    }
}

pub(super) fn request(start: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
        start_revision: start,
        ..WatchCreateRequest::default()
    }
}

/// The contents of all messages.
pub(super) fn contents(stream: &mut WatchStream) -> Vec<(i64, i64, String)> {
    let mut all = Vec::new();
    while let Some(message) = stream.next().unwrap() {
        let text = match &message.content {
            WatchContent::Events { events, .. } => format!("{} events", events.len()),
            other => format!("{other:?}"),
        };
        all.push((message.watch_id, message.revision, text));
    }
    all
}

#[test]
fn answers_to_creations_are_those_of_etcd() {
    let mut run = Run::new(WatchLimits::default());
    (0..5).for_each(|number| run.put(number, 1));
    run.machine.compact(4).unwrap();
    let stream = &mut run.stream;
    stream.create(request(0));
    stream.create(WatchCreateRequest {
        watch_id: 5,
        ..request(4)
    });
    stream.create(WatchCreateRequest {
        watch_id: 5,
        ..request(0)
    });
    stream.create(request(3));
    stream.create(request(-1));
    stream.create(WatchCreateRequest {
        range_end: Bytes::from_static(b"a"),
        ..request(0)
    });
    let text = |text: &str| text.to_owned();
    let refused = |reason: &'static str| format!("{:?}", WatchContent::Refused(reason));
    let expected = vec![
        (0, 6, text("Created")),
        (5, 6, text("Created")),
        (
            -1,
            6,
            refused("mvcc: duplicate watch ID provided on the WatchStream"),
        ),
        (1, 6, text("Created")),
        (1, 0, text("Compacted(4)")),
        (
            -1,
            6,
            refused("etcdserver: mvcc: required revision has been compacted"),
        ),
        (-1, 6, refused("mvcc: watcher range is empty")),
        (5, 6, text("3 events")),
    ];
    assert_eq!(contents(stream), expected);
}

/// The events were still in memory, and were sent.
#[test]
fn a_watch_from_a_compacted_revision_is_refused_though_its_events_are_in_memory() {
    let mut run = Run::new(WatchLimits::default());
    run.stream.create(request(0));
    (0..3).for_each(|number| run.put(number, 1));
    while run.hub.fan_out().unwrap() {}
    run.machine.compact(4).unwrap();
    contents(&mut run.stream);
    run.stream.create(request(2));
    let last = contents(&mut run.stream).pop().unwrap();
    assert_eq!(last, (1, 0, "Compacted(4)".to_owned()));
}

/// As in etcd. A client takes an event with a pair before for an update.
#[test]
fn a_put_after_a_deletion_in_one_transaction_has_no_pair_before() {
    let mut run = Run::new(WatchLimits::default());
    run.put(1, 1);
    let replace = vec![op_delete("k1", ""), op_put("k1", "2")];
    run.machine.txn(txn(vec![], replace, vec![])).unwrap();
    while run.hub.fan_out().unwrap() {}
    run.stream.create(WatchCreateRequest {
        prev_kv: true,
        ..request(3)
    });
    let mut previous = Vec::new();
    while let Some(message) = run.stream.next().unwrap() {
        let response = message.response(ResponseHeader::default());
        let events = response.events.into_iter();
        previous.extend(events.map(|event| event.prev_kv.map(|kv| kv.mod_revision)));
    }
    assert_eq!(previous, [Some(2), None]);
}

#[test]
fn progress_of_a_watch_in_the_future_waits_for_its_revision() {
    let mut run = Run::new(WatchLimits::default());
    run.stream.create(request(4));
    run.stream.request_progress();
    assert_eq!(contents(&mut run.stream).len(), 1, "created");
    run.put(1, 1);
    run.hub.fan_out().unwrap();
    assert_eq!(contents(&mut run.stream), vec![]);
    run.put(1, 1);
    run.hub.fan_out().unwrap();
    assert_eq!(
        contents(&mut run.stream),
        vec![(-1, 3, "Progress".to_owned())]
    );
}

/// The revisions that the snapshot left out counted as not delivered until the next write: progress
/// requests had no answer, and no compaction could delete rows.
#[test]
fn after_a_snapshot_with_a_gap_nothing_waits_for_the_next_revision() {
    let mut run = Run::new(WatchLimits::default());
    run.stream.create(request(0));
    assert_eq!(contents(&mut run.stream).len(), 1, "created");
    (0..5).for_each(|number| run.put(number, 1));
    run.machine.compact(5).unwrap();
    run.replace();
    assert_eq!(run.hub.fan_out(), Ok(false));
    assert!(!run.hub.is_behind());
    assert!(run.hub.has_delivered(6));
    run.stream.create(request(0));
    run.stream.request_progress();
    let expected = vec![
        (1, 6, "Created".to_owned()),
        (0, 0, "Compacted(5)".to_owned()),
        (-1, 6, "Progress".to_owned()),
    ];
    assert_eq!(contents(&mut run.stream), expected);
}
