//! A state whose rows do not fit together.

use keelson_proto::internal::ConfState;
use keelson_proto::internal::member_change::Op as Change;
use prost::Message;

use super::super::meta;
use super::cluster::change;
use super::harness::{Machine, member};
use crate::engine::{Engine, Table, WriteBatch};
use crate::state::{Limits, StateError, StateMachine};

/// raft-rs ended the process at a membership that it cannot restore.
#[test]
fn a_membership_that_is_not_that_of_the_members_is_refused() {
    let mut machine = Machine::new();
    let mut learner = member(4);
    learner.is_learner = true;
    machine.change(change(Change::Add(learner)), true).unwrap();
    machine.flush();
    let sound = machine.state.applied();
    let open = |damage: &dyn Fn(&mut ConfState)| {
        let mut mark = sound.clone();
        damage(mark.conf_state.as_mut().expect("a membership"));
        let mut batch = WriteBatch::default();
        let row = mark.encode_to_vec();
        batch.put(Table::Meta, meta::APPLIED, row);
        machine.engine.write(&batch).unwrap();
        StateMachine::open(machine.engine.clone(), Limits::default()).map(|_| ())
    };
    assert!(open(&|_| {}).is_ok());
    let damages: [&dyn Fn(&mut ConfState); 8] = [
        &|conf: &mut ConfState| conf.voters[1] = 0,
        &|conf: &mut ConfState| conf.voters[1] = 1,
        &|conf: &mut ConfState| conf.voters[1] = 6,
        &|conf: &mut ConfState| conf.voters.clear(),
        &|conf: &mut ConfState| conf.voters.push(4),
        &|conf: &mut ConfState| conf.voters.append(&mut conf.learners.clone()),
        &|conf: &mut ConfState| conf.learners.clear(),
        &|conf: &mut ConfState| conf.voters_outgoing.push(1),
    ];
    for damage in damages {
        let refused = open(damage);
        assert!(
            matches!(refused, Err(StateError::Damaged(_))),
            "{refused:?}"
        );
    }
}
