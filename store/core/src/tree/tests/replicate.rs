//! The tree of a standby, against the tree that it follows.

use std::collections::BTreeMap;

use keelson_proto::internal::tree_request::Op;
use keelson_proto::internal::{ReplicatedTree, TreeExpire, TreeRequest};
use proptest::collection::vec;
use proptest::prelude::*;

use super::requests::*;
use crate::tree::rows::{event_message, event_node};
use crate::tree::{Loader, Tree, WalkScope};

const ALL: WalkScope = WalkScope {
    recursive: true,
    hidden: true,
};

/// What a step does at the source.
#[derive(Clone, Debug)]
enum Step {
    Change(TreeRequest),
    Expire(i64),
    /// Changes that clients do not see.
    Touch(u64),
    /// The standby is sent what is new, and once more.
    Follow,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    const OPS: [Op; 8] = [
        Op::Set,
        Op::Set,
        Op::Create,
        Op::Update,
        Op::CompareAndSwap,
        Op::CreateInOrder,
        Op::Delete,
        Op::CompareAndDelete,
    ];
    let name = proptest::sample::select(&["a", "b", "_h"][..]);
    let path = vec(name, 1..4).prop_map(|names| format!("/1/{}", names.join("/")));
    let op = proptest::sample::select(&OPS[..]);
    let expires = prop_oneof![3 => Just(0), 2 => (1..6i64).prop_map(|s| NOW + s * SECOND)];
    let value = proptest::sample::select(&["", "x", "y"][..]);
    let flags = (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.2));
    let change = (op, path, expires, value, flags).prop_map(
        |(op, path, expires_ns, value, (dir, recursive, refresh))| TreeRequest {
            expires_ns,
            dir: dir && value.is_empty(),
            recursive,
            refresh,
            ..with_value(op, &path, value)
        },
    );
    prop_oneof![
        16 => change.prop_map(Step::Change),
        2 => (1..6i64).prop_map(Step::Expire),
        1 => prop_oneof![Just(1), Just(700), Just(3000)].prop_map(Step::Touch),
        3 => Just(Step::Follow),
        1 => Just(Step::Restart),
    ]
}

/// What a follower sends: the events that the source shows, and the nodes that differ after them.
fn follow(source: &Tree, standby: &mut Tree) {
    let mut part = ReplicatedTree {
        after: standby.index(),
        index: source.index(),
        ..ReplicatedTree::default()
    };
    let history = source.history.oldest();
    if part.after + 1 < history {
        let reset = ReplicatedTree {
            after: part.after,
            reset: true,
            index: history - 1,
            ..ReplicatedTree::default()
        };
        standby.replicate(&reset);
        part.after = reset.index;
    }
    let events = source.history.from(part.after + 1);
    part.events = events.map(|event| event_message(event, 0)).collect();
    standby.replicate(&part);
    let (theirs, ours) = (source.below(b"/1", ALL), standby.below(b"/1", ALL));
    let differing = theirs.iter().filter(|node| !ours.contains(node));
    let is_gone = |key| theirs.iter().all(|node| node.key != key);
    let correction = ReplicatedTree {
        after: source.index(),
        index: source.index(),
        nodes: differing.map(event_node).collect(),
        gone: ours
            .iter()
            .map(|node| node.key.clone())
            .filter(|key| is_gone(key.clone()))
            .collect(),
        ..ReplicatedTree::default()
    };
    standby.replicate(&correction);
    let before = standby.digest();
    // Of a proposal whose outcome was not known in time.
    standby.replicate(&part);
    standby.replicate(&correction);
    assert_eq!(standby.digest(), before);
}

/// From its rows.
fn restarted(tree: &Tree) -> Tree {
    let mut loader = Loader::default();
    for (key, row) in tree.rows() {
        loader.push(&key, &row).unwrap();
    }
    loader.finish().unwrap()
}

fn same(source: &Tree, standby: &Tree) {
    assert_eq!(standby.below(b"/1", ALL), source.below(b"/1", ALL));
    assert_eq!(standby.index(), source.index());
    let times = |tree: &Tree| tree.deadlines.iter().map(|of| of.0).collect::<Vec<_>>();
    assert_eq!(times(standby), times(source));
    let events = |tree: &Tree| tree.history.from(0).cloned().collect::<Vec<_>>();
    assert_eq!(events(standby), events(source));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_standby_has_the_tree_that_it_follows(steps in vec(step(), 1..80)) {
        let (mut source, mut standby) = (Tree::new(), Tree::new());
        for step in steps {
            match step {
                Step::Change(request) => drop(source.apply(&request)),
                Step::Expire(seconds) => {
                    source.expire(&TreeExpire {
                        time_ns: NOW + seconds * SECOND,
                        ..TreeExpire::default()
                    });
                }
                Step::Touch(times) => (0..times).for_each(|_| source.touch()),
                Step::Follow => follow(&source, &mut standby),
                Step::Restart => {
                    let restarted = restarted(&standby);
                    assert_eq!(restarted.digest(), standby.digest());
                    standby = restarted;
                }
            }
        }
        follow(&source, &mut standby);
        same(&source, &standby);
    }
}

/// Without what no event shows, the trees are the same to the last bit: history, indexes, times.
#[test]
fn events_alone_make_the_same_tree() {
    let (mut source, mut standby) = (Tree::new(), Tree::new());
    for request in [
        ttl(set("/1/a/b", "x"), 5),
        dir(Op::Create, "/1/d"),
        ttl(dir(Op::Update, "/1/d"), 9),
        set("/1/d/_h/x", "hidden"),
        compare(Op::CompareAndSwap, "/1/a/b", "x", 0),
        with_value(Op::CreateInOrder, "/1/q", "1"),
        recursive("/1/d"),
        dir(Op::Set, "/1/a/b"),
    ] {
        source.apply(&request).unwrap();
        let part = ReplicatedTree {
            after: standby.index(),
            index: source.index(),
            events: source
                .history
                .from(source.index())
                .map(|event| event_message(event, 0))
                .collect(),
            ..ReplicatedTree::default()
        };
        let replicated = standby.replicate(&part);
        assert_eq!(replicated.events.len(), 1);
        assert_eq!(standby.digest(), source.digest(), "{request:?}");
    }
}

/// They come from the network.
#[test]
fn numbers_and_paths_that_no_tree_has_do_no_harm() {
    let mut standby = Tree::new();
    let mut event = event_message(&standby_event(), 0);
    let mut node = event.node.clone().unwrap();
    (node.created, node.modified) = (u64::MAX, u64::MAX);
    event.node = Some(node.clone());
    let odd = ["/1", "/1/", "/", "", "/2/x", "/0", "1//"];
    let part = ReplicatedTree {
        index: u64::MAX / 2,
        events: vec![event],
        nodes: odd
            .iter()
            .map(|key| keelson_proto::internal::TreeEventNode {
                key: (*key).into(),
                ..node.clone()
            })
            .collect(),
        gone: odd.iter().map(|key| (*key).into()).collect(),
        ..ReplicatedTree::default()
    };
    let replicated = standby.replicate(&part);
    assert!(replicated.corrected.is_empty());
    assert_eq!(standby.index(), u64::MAX / 2);
    assert_eq!(standby.len(), 1);
    assert_eq!(restarted(&standby).digest(), standby.digest());
}

/// Its index, lower than before, was in no row until the next change.
#[test]
fn a_tree_that_begins_anew_is_restarted_at_its_index() {
    let mut standby = Tree::new();
    (0..3).for_each(|_| standby.touch());
    let mut engine: BTreeMap<_, _> = standby.rows().into_iter().collect();
    standby.cleaned();
    standby.replicate(&ReplicatedTree {
        after: 3,
        reset: true,
        index: 0,
        ..ReplicatedTree::default()
    });
    assert!(0 < standby.unflushed().0);
    for (key, row) in standby.stale_rows() {
        match row {
            Some(row) => drop(engine.insert(key, row)),
            None => drop(engine.remove(&key)),
        }
    }
    standby.cleaned();
    assert_eq!(standby.unflushed().0, 0);
    let mut loader = Loader::default();
    for (key, row) in &engine {
        loader.push(key, row).unwrap();
    }
    assert_eq!(loader.finish().unwrap().index(), 0);
}

fn standby_event() -> crate::tree::Event {
    let mut tree = Tree::new();
    tree.touch();
    let event = tree.apply(&set("/1/a", "x")).unwrap();
    crate::tree::Event::clone(&event)
}
