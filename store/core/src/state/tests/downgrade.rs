//! A downgrade of the cluster: it begins, holds newer commands back, and ends.

use std::sync::Arc;

use keelson_proto::internal::command::Op;
use keelson_proto::internal::{AsUser, ClusterVersion, Command, Downgrade, MemberAttributes};
use keelson_proto::internal::{Replicate, member_change};

use super::harness::Machine;
use super::requests::*;
use crate::engine::MemoryEngine;
use crate::state::{
    COMMAND_VERSION, Error, Limits, PREVIOUS_COMMAND_VERSION, Response, StateError, StateMachine,
};
use crate::{Committed, EntryKind};

fn downgrade(target: &str) -> Op {
    Op::Downgrade(Downgrade {
        target: target.to_owned(),
    })
}

fn as_root(op: Op) -> Op {
    Op::AsUser(Box::new(AsUser {
        user: "root".to_owned(),
        since: 0,
        command: Some(Box::new(Command { op: Some(op) })),
    }))
}

fn publish(machine: &mut Machine, member_id: u64, command_version: u32) {
    let attributes = MemberAttributes {
        member_id,
        command_version,
        name: "started".to_owned(),
        ..MemberAttributes::default()
    };
    let applied = machine.apply(Op::MemberAttributes(attributes));
    assert_eq!(applied, Ok(Response::Empty));
}

/// Three members of this release, at cluster version 3.5.
fn cluster() -> Machine {
    let mut machine = Machine::new();
    for member in 1..=3 {
        publish(&mut machine, member, COMMAND_VERSION);
    }
    let version = "3.5.0".to_owned();
    let version = Op::ClusterVersion(ClusterVersion { version });
    machine.apply(version).unwrap();
    machine
}

/// The cluster version, and the target of the downgrade.
fn versions(state: &StateMachine) -> (Option<String>, Option<String>) {
    (state.view().cluster_version(), state.view().downgrade())
}

fn texts(version: &str, target: Option<&str>) -> (Option<String>, Option<String>) {
    (Some(version.to_owned()), target.map(str::to_owned))
}

#[test]
fn a_downgrade_begins_once_and_is_cancelled_once() {
    let mut machine = cluster();
    assert_eq!(machine.apply(downgrade("")), Err(Error::NoDowngrade));
    for target in ["3.5.0", "3.3.0", "3.4", "4.4.0"] {
        let refused = machine.apply(downgrade(target));
        assert_eq!(refused, Err(Error::InvalidDowngradeTarget), "{target}");
    }
    assert_eq!(versions(&machine.state), texts("3.5.0", None));
    let tree = machine.state.view().tree_index();
    machine.apply(downgrade("3.4.0")).unwrap();
    // As etcd's: the cluster version is in its v2 tree.
    assert_eq!(machine.state.view().tree_index(), tree + 1);
    let again = machine.apply(downgrade("3.4.0"));
    assert_eq!(again, Err(Error::DowngradeInProgress));
    for flushed in [false, true] {
        assert_eq!(versions(&machine.state), texts("3.4.0", Some("3.4.0")));
        let stored = machine.state.view().storage_version().unwrap();
        assert_eq!(stored.as_deref(), flushed.then_some("3.4.0"));
        machine.flush();
        machine.restart();
    }
    let fresh = Arc::new(MemoryEngine::new());
    let capture = machine.state.capture().unwrap();
    super::snapshots::install_into(fresh.clone(), capture, 100);
    let copy = StateMachine::open(fresh, Limits::default()).unwrap();
    assert_eq!(versions(&copy.unwrap()), versions(&machine.state));
    machine.apply(downgrade("")).unwrap();
    assert_eq!(versions(&machine.state), texts("3.4.0", None));
    machine.flush();
    machine.restart();
    assert_eq!(machine.apply(downgrade("")), Err(Error::NoDowngrade));
}

#[test]
fn it_ends_when_no_member_is_newer_than_its_target() {
    for removed in [false, true] {
        let mut machine = cluster();
        machine.apply(downgrade("3.4.0")).unwrap();
        for member in [1, 2] {
            publish(&mut machine, member, PREVIOUS_COMMAND_VERSION);
            assert_eq!(versions(&machine.state), texts("3.4.0", Some("3.4.0")));
        }
        match removed {
            false => publish(&mut machine, 3, PREVIOUS_COMMAND_VERSION),
            true => {
                let change = super::cluster::change(member_change::Op::Remove(3));
                machine.change(change, true).unwrap();
            }
        }
        assert_eq!(versions(&machine.state), texts("3.4.0", None));
        let view = machine.state.view();
        assert_eq!(view.command_version(), PREVIOUS_COMMAND_VERSION);
    }
}

#[test]
fn nothing_newer_than_its_target_is_proposed_or_applied() {
    let mut machine = cluster();
    let view = machine.state.view();
    let newer = [downgrade("3.4.0"), as_root(downgrade("3.4.0"))];
    for op in &newer {
        assert_eq!(view.admits(op), Ok(()));
    }
    machine.apply(downgrade("3.4.0")).unwrap();
    assert_eq!(view.command_version(), PREVIOUS_COMMAND_VERSION);
    // Only what ends it.
    for op in &newer {
        assert_eq!(view.admits(op), Ok(()));
    }
    assert_eq!(view.admits(&Op::Put(put("a", "b"))), Ok(()));
    assert_eq!(view.admits(&Op::Replicate(Replicate::default())), Ok(()));
    publish(&mut machine, 2, PREVIOUS_COMMAND_VERSION);
    for op in &newer {
        assert_eq!(view.admits(op), Err(Error::NotEveryMember));
    }
    publish(&mut machine, 2, 2);
    let replicate = as_root(Op::Replicate(Replicate::default()));
    assert_eq!(view.admits(&replicate), Err(Error::NotEveryMember));
}

/// The release before this one stops where it must, and starts once the engine is beyond.
#[test]
fn the_release_before_starts_on_an_engine_that_is_beyond_newer_commands() {
    let mut machine = cluster();
    machine.apply(downgrade("3.4.0")).unwrap();
    let newer: Committed = machine.log.last().unwrap().clone();
    assert_eq!(newer.entry.kind, EntryKind::Command);
    let mut older = cluster();
    older.state.pretend(PREVIOUS_COMMAND_VERSION);
    let stopped = older.state.apply(&newer, true).map(drop);
    assert!(
        matches!(stopped, Err(StateError::NotUnderstood { .. })),
        "{stopped:?}"
    );
    machine.flush();
    machine.restart();
    machine.state.pretend(PREVIOUS_COMMAND_VERSION);
    assert!(machine.state.apply(&newer, true).is_ok());
    assert!(machine.put(put("a", "b")).is_ok());
}
