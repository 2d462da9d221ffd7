//! The limit of the history in bytes, with a small limit.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::internal::TreeEvent;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::requests::*;
use crate::tree::history::{EVENTS_MAX, EventHistory};
use crate::tree::rows::event_row;
use crate::tree::{Loader, Tree};

const BYTES_MAX: u64 = 4096;

/// An event of a run.
#[derive(Clone, Debug)]
enum Step {
    /// Sets a value of that many bytes.
    Set(usize),
    /// A number of refreshes, or of changes invisible to clients.
    Refresh,
    Touch(usize),
    Flush,
    Reopen,
    /// Installs a snapshot in another member.
    Move,
    /// Loads the rows of a release that kept a thousand events of any size.
    Upgrade,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..900usize).prop_map(Step::Set),
        // More than the limit of the whole history.
        1 => (4096..9000usize).prop_map(Step::Set),
        6 => Just(Step::Refresh),
        2 => (1..4usize).prop_map(Step::Touch),
        1 => (900..1100usize).prop_map(Step::Touch),
        4 => Just(Step::Flush),
        2 => Just(Step::Reopen),
        1 => Just(Step::Move),
        1 => Just(Step::Upgrade),
    ]
}

struct Run {
    tree: Tree,
    rows: BTreeMap<Bytes, Bytes>,
    /// The size of the event of each index.
    weights: Vec<u64>,
    /// Every event so far, as a row of a release without a limit.
    before: BTreeMap<Bytes, Bytes>,
}

impl Run {
    fn new() -> Run {
        let mut tree = Tree::new();
        tree.history = EventHistory::within(BYTES_MAX);
        Run {
            tree,
            rows: BTreeMap::new(),
            weights: Vec::new(),
            before: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Set(bytes) => {
                let event = self.tree.apply(&set("/1/a", &"v".repeat(*bytes))).unwrap();
                self.happened(&event, event.weight() as u64);
            }
            Step::Refresh => {
                if let Ok(event) = self.tree.apply(&refresh(ttl(set("/1/a", ""), 9))) {
                    self.happened(&event, 0);
                }
            }
            Step::Touch(times) => (0..*times).for_each(|_| {
                self.tree.touch();
                self.weights.push(0);
            }),
            Step::Flush => self.flush(),
            Step::Reopen => {
                self.flush();
                self.open();
            }
            Step::Move => {
                self.rows = self.tree.rows().into_iter().collect();
                self.open();
            }
            Step::Upgrade => {
                self.flush();
                self.rows.extend(self.before.clone());
                self.open();
                self.flush();
            }
        }
        self.check();
    }

    fn happened(&mut self, event: &crate::tree::Event, weight: u64) {
        self.weights.push(weight);
        let (key, row) = event_row(event, 0);
        self.before.insert(key, row);
    }

    fn flush(&mut self) {
        for (key, row) in self.tree.stale_rows() {
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        self.tree.cleaned();
        assert_eq!(self.tree.unflushed(), (0, 0));
        let events = self.rows.iter().filter(|(key, _)| key[0] == b'e');
        let bytes: usize = events.map(|(_, row)| row.len()).sum();
        let newest = self.weights.iter().rev().find(|weight| 0 < **weight);
        let most = BYTES_MAX.max(newest.copied().unwrap_or(0)) as usize + EVENTS_MAX;
        assert!(bytes <= most, "{bytes} of {most}");
    }

    fn open(&mut self) {
        let mut loader = Loader::new(EventHistory::within(BYTES_MAX));
        for (key, row) in &self.rows {
            loader.push(key, row).unwrap();
        }
        self.tree = loader.finish().unwrap();
    }

    /// The history is the longest suffix of the events that is within both limits.
    fn check(&self) {
        let (mut kept, mut events, mut bytes) = (0, 0, 0);
        for weight in self.weights.iter().rev().take(EVENTS_MAX) {
            bytes += weight;
            events += u64::from(0 < *weight);
            if BYTES_MAX < bytes && 1 < events {
                break;
            }
            kept += 1;
        }
        let index = self.weights.len();
        assert_eq!(self.tree.index(), index as u64);
        let oldest = if index == 0 { 0 } else { index - kept + 1 };
        assert_eq!(self.tree.history.oldest(), oldest as u64);
        let found: Vec<u64> = self.tree.history.from(0).map(|event| event.index).collect();
        let expected = (oldest.max(1)..=index).filter(|index| 0 < self.weights[index - 1]);
        assert_eq!(
            found,
            expected.map(|index| index as u64).collect::<Vec<_>>()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_history_is_the_newest_events_within_both_bounds(steps in vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
    }
}

#[test]
fn a_row_that_reaches_back_less_far_than_its_own_event_is_damage() {
    let mut tree = Tree::new();
    let event = tree.apply(&set("/1/a", "x")).unwrap();
    for (oldest, fine) in [(0, true), (1, true), (2, false)] {
        let (key, row) = event_row(&event, oldest);
        assert_eq!(TreeEvent::decode(&row[..]).unwrap().oldest, oldest);
        assert_eq!(Loader::default().push(&key, &row).is_ok(), fine, "{oldest}");
    }
}

/// Two readers of a past event share one encoding; the history itself has none.
#[test]
fn an_event_of_the_past_is_shared_while_it_is_read_and_not_longer() {
    let mut tree = Tree::new();
    let live = tree.apply(&set("/1/a", "x")).unwrap();
    live.encoding.set(Bytes::from_static(b"once")).unwrap();
    let scan = |tree: &Tree| tree.scan(b"/1/a", false, 1).unwrap().unwrap();
    let (one, two) = (scan(&tree), scan(&tree));
    assert_eq!(one.encoding.get(), two.encoding.get());
    drop((live, one, two));
    let again = scan(&tree);
    assert_eq!(again.encoding.get(), None);
    again.encoding.set(Bytes::from_static(b"again")).unwrap();
    assert_eq!(scan(&tree).encoding.get(), again.encoding.get());
    assert_eq!(event(&again), "set /1/a=x @1/1");
}
