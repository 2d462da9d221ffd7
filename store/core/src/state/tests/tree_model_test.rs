//! Random requests to the v2 tree, flushes, crashes and moves to another engine, against the model.

use std::sync::Arc;

use keelson_model::tree::{Event, Tree};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::tree_request::Op as TreeOp;
use keelson_proto::internal::{MemberAttributes, TreeExpire, TreeRequest};
use proptest::collection::vec;
use proptest::prelude::*;

use super::harness::Machine;
use super::snapshots::install_into;
use super::tree_answers::{error_of, event_of, node_of};
use crate::engine::{Engine, MemoryEngine};
use crate::state::*;
use crate::tree::tests::requests::{NOW, SECOND};

/// An event of a run.
#[derive(Clone, Debug)]
enum Step {
    Change(TreeRequest),
    /// Spares nodes whose time was set up to this many indexes ago, unless 0.
    Expire(u64),
    /// A number of changes invisible to clients.
    Touch(u64),
    Wait(i64),
    Rotate,
    Write,
    Flushed,
    Crash,
    Move,
}

fn path() -> impl Strategy<Value = String> {
    let name = proptest::sample::select(&["a", "b", "_h", "ab", "a!"][..]);
    let below = vec(name, 1..4).prop_map(|names| format!("/1/{}", names.join("/")));
    let deep = (10..300usize).prop_map(|names| format!("/1{}", "/a".repeat(names)));
    let rest = proptest::sample::select(&["/", "/0", "/1", "/2", "/2/a"][..]);
    prop_oneof![60 => below, 1 => deep, 4 => rest.prop_map(String::from)]
}

fn operation() -> impl Strategy<Value = TreeOp> {
    prop_oneof![
        6 => Just(TreeOp::Set),
        3 => Just(TreeOp::Create),
        3 => Just(TreeOp::Update),
        3 => Just(TreeOp::CompareAndSwap),
        2 => Just(TreeOp::CreateInOrder),
        3 => Just(TreeOp::Delete),
        2 => Just(TreeOp::CompareAndDelete),
    ]
}

fn rarely() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.15)
}

/// A request with times relative to the clock of the run.
fn change() -> impl Strategy<Value = TreeRequest> {
    let value = proptest::sample::select(&["", "x", "y"][..]);
    let expires = prop_oneof![4 => Just(0), 1 => Just(1), 2 => 1..6 * SECOND];
    let prev = prop_oneof![2 => Just(0), 1 => 1..60u64];
    let flags = (rarely(), any::<bool>(), rarely());
    (
        operation(),
        path(),
        value.clone(),
        value,
        expires,
        prev,
        flags,
    )
        .prop_map(
            |(op, path, value, prev_value, expires_ns, prev_index, flags)| TreeRequest {
                op: op.into(),
                path: path.into(),
                value: value.into(),
                dir: flags.0,
                recursive: flags.1,
                prev_index,
                prev_value: prev_value.into(),
                expires_ns,
                refresh: flags.2,
                time_ns: 0,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => change().prop_map(Step::Change),
        3 => prop_oneof![Just(0), 1..30u64].prop_map(Step::Expire),
        2 => prop_oneof![8 => 1..3u64, 1 => 300..900u64].prop_map(Step::Touch),
        6 => (1..2 * SECOND).prop_map(Step::Wait),
        3 => Just(Step::Rotate),
        3 => Just(Step::Write),
        3 => Just(Step::Flushed),
        1 => Just(Step::Crash),
        1 => Just(Step::Move),
    ]
}

/// A state machine and the model.
struct Run {
    machine: Machine,
    model: Tree,
    now: i64,
    flush: Option<(Flush, bool)>,
}

impl Run {
    fn new() -> Run {
        let mut model = Tree::new();
        (0..3).for_each(|_| model.touch());
        Run {
            machine: Machine::new(),
            model,
            now: NOW,
            flush: None,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(request) => self.change(request),
            Step::Expire(back) => self.expire(back),
            Step::Touch(times) => (0..times).for_each(|_| self.touch()),
            Step::Wait(ns) => self.now += ns,
            Step::Rotate => {
                if let Some(flush) = self.machine.state.rotate() {
                    self.flush = Some((flush, false));
                }
            }
            Step::Write => {
                if let Some((flush, written)) = &mut self.flush {
                    self.machine.engine.write(&flush.batch).unwrap();
                    *written = true;
                }
            }
            Step::Flushed => {
                if let Some((flush, _)) = self.flush.take_if(|(_, written)| *written) {
                    self.machine.state.flushed(flush);
                }
            }
            Step::Crash => {
                self.flush = None;
                self.machine.restart();
                self.check_all();
            }
            Step::Move => {
                self.flush = None;
                let engine = Arc::new(MemoryEngine::new());
                install_into(engine.clone(), self.machine.state.capture().unwrap(), 300);
                self.machine.engine = engine;
                self.machine.restart();
                self.check_all();
            }
        }
    }

    fn change(&mut self, request: TreeRequest) {
        let expires_ns = match request.expires_ns {
            0 | 1 => request.expires_ns,
            left => self.now + left,
        };
        let request = TreeRequest {
            time_ns: self.now,
            expires_ns,
            ..request
        };
        let expected = self.model.apply(&request);
        let done = match self.machine.apply(Op::Tree(request.clone())) {
            Ok(Response::Tree(event)) => Ok(event),
            Err(Error::Tree(error)) => Err(error),
            other => panic!("{other:?}"),
        };
        let done = done.map(|event| event_of(&event)).map_err(error_of);
        assert_eq!(done, expected, "{request:?}");
    }

    fn expire(&mut self, back: u64) {
        let spared_index = match back {
            0 => 0,
            back => self.model.index().saturating_sub(back),
        };
        let request = TreeExpire {
            time_ns: self.now,
            spared_index,
            term: 0,
        };
        let before = self.model.index();
        let view = self.machine.state.view();
        let next = view.tree_next_expiry(spared_index);
        assert_eq!(next, self.model.next_expiry(spared_index, before));
        self.machine.apply(Op::TreeExpire(request)).unwrap();
        self.model.expire(&request);
        assert_eq!(view.tree_index(), self.model.index());
        for index in before + 1..=self.model.index() {
            let expected = self.model.event(index).expect("an expiry is visible");
            let done = view.tree_scan(&expected.node.key, false, index).unwrap();
            let done = done.expect("it has happened");
            assert_eq!(event_of(&done), expected.in_history());
        }
    }

    fn touch(&mut self) {
        let attributes = MemberAttributes {
            member_id: 1,
            ..MemberAttributes::default()
        };
        self.machine
            .apply(Op::MemberAttributes(attributes))
            .unwrap();
        self.model.touch();
    }

    fn check_all(&self) {
        let (view, index) = (self.machine.state.view(), self.model.index());
        assert_eq!(view.tree_index(), index);
        assert_eq!(view.tree_next_expiry(0), self.model.next_expiry(0, index));
        let paths = [
            "/", "/1", "/1/a", "/1/_h", "/1/a/_h", "/1/a!", "/1/b/ab", "/1/ab/a", "/2",
        ];
        for path in paths {
            for recursive in [false, true] {
                let path = path.as_bytes();
                let found = view.tree_get(path, recursive, self.now);
                let found = found.map(|(node, index)| (node_of(&node), index));
                let expected = self.model.get(path, recursive, index, self.now);
                let expected = expected.map(|node| (node, index));
                assert_eq!(found.map_err(error_of), expected);
                for back in [0, 1, 5, 40, 998, 999, 1000, 1001] {
                    let since = (index + 1).saturating_sub(back);
                    let found = view.tree_scan(path, recursive, since);
                    let found = found.map(|event| event.map(|event| event_of(&event)));
                    let expected = self.model.scan(path, recursive, since, index);
                    let expected = expected.map(|event| event.map(Event::in_history));
                    assert_eq!(found.map_err(error_of), expected);
                }
            }
        }
    }

    /// A member that applies the same log and never restarts has the same tree.
    fn check_against_another(&self) {
        let mut other = Machine::new();
        for committed in &self.machine.log {
            other.state.apply(committed, false).unwrap();
        }
        let digest = |machine: &Machine| machine.state.view().tree_digest();
        assert_eq!(digest(&self.machine), digest(&other));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_tree_does_what_the_model_does(steps in vec(step(), 1..150)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.check_all();
        run.check_against_another();
        run.step(Step::Crash);
        run.step(Step::Move);
        run.check_against_another();
    }
}
