//! What the tests of the leader's parts have in common: a state without a log around it.

use std::sync::Arc;

use keelson_proto::internal::{Command, command::Op};
use prost::Message;

use crate::engine::MemoryEngine;
use crate::state::{Applied, Genesis, Limits, StateMachine};
use crate::{Committed, Entry, EntryKind, Index, ProposalId, Term, proposal};

/// An empty state.
pub(super) fn empty_state() -> StateMachine {
    let engine = Arc::new(MemoryEngine::new());
    let state = StateMachine::create(engine, Genesis::default(), Limits::default());
    state.expect("an empty engine")
}

/// Commits a command that must succeed, in an entry of that term.
pub(super) fn commit(state: &mut StateMachine, term: Term, op: Op) -> Applied {
    let command = Command { op: Some(op) }.encode_to_vec();
    let entry = Entry {
        index: Index(state.applied().index + 1),
        term,
        kind: EntryKind::Command,
        data: proposal::encode(ProposalId::default(), &command),
        context: Default::default(),
    };
    let committed = Committed { entry, conf: None };
    let applied = state.apply(&committed, true).expect("understood");
    assert!(applied.response.is_ok(), "{:?}", applied.response);
    applied
}
