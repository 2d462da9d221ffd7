//! Applying committed entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{AlarmType, TxnRequest};
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::tree_request::Op as TreeOp;
use prost::Message;

use super::error::{Error, StateError};
use super::registry::Registry;
use super::shared::ReadError;
use super::write::Write;
use super::{Applied, Response, StateMachine, delete, put, quota, txn};
use crate::engine::EngineError;
use crate::tree::Event;
use crate::{Committed, EntryKind, ProposalId, proposal};

/// Whose request it was, and what it is answered.
pub(super) type Answer = (Option<ProposalId>, Result<Response, Error>);

/// What a command in the log asks for; nothing where this release does not know it.
pub(super) fn understood(command: Bytes) -> Option<Op> {
    let op = Command::decode(command).ok()?.op?;
    match &op {
        Op::Tree(request) => TreeOp::try_from(request.op).ok().map(|_| op),
        Op::Txn(request) => knows_operations(request).then_some(op),
        _ => Some(op),
    }
}

/// Whether each operation of a transaction is of a kind that this release has, also in the branch
/// that is not taken. A client cannot send any other (`check::txn`).
fn knows_operations(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| match &op.request {
        Some(Request::RequestTxn(nested)) => knows_operations(nested),
        known => known.is_some(),
    })
}

/// Whether this release can apply that command. A leader puts no other into the log, from any
/// member.
pub fn is_understood(command: &Bytes) -> bool {
    understood(command.clone()).is_some()
}

impl StateMachine {
    /// Applies an entry. One that was applied before is ignored; a gap is a bug in the caller.
    /// `want_response` is false where nobody waits for the answer: the response may then lack pairs
    /// and range results, and nothing else differs.
    ///
    /// # Errors
    /// Fatal: the engine failed, and the entry may be half applied in memory; or this release does
    /// not understand the entry, of which nothing is applied: a newer one must go on from there.
    pub fn apply(
        &mut self,
        committed: &Committed,
        want_response: bool,
    ) -> Result<Applied, StateError> {
        let entry = &committed.entry;
        if entry.index.0 <= self.mark.index {
            return Ok(self.outcome((None, Ok(Response::Empty)), Vec::new()));
        }
        assert_eq!(
            entry.index.0,
            self.mark.index + 1,
            "entries are applied in order, without gaps"
        );
        let mut events = Vec::new();
        let answer = match entry.kind {
            EntryKind::Command => self.apply_command(committed, want_response, &mut events)?,
            EntryKind::Membership => self.apply_membership(committed)?,
        };
        self.mark.index = entry.index.0;
        self.mark.term = entry.term.0;
        self.shared.applied.store(entry.index.0, Ordering::SeqCst);
        Ok(self.outcome(answer, events))
    }

    fn outcome(&self, (id, response): Answer, events: Vec<Arc<Event>>) -> Applied {
        Applied {
            id,
            response,
            revision: self.shared.revision(),
            events,
        }
    }

    fn apply_command(
        &mut self,
        committed: &Committed,
        want: bool,
        events: &mut Vec<Arc<Event>>,
    ) -> Result<Answer, StateError> {
        let Some((id, command)) = proposal::decode(&committed.entry.data) else {
            // The empty entry with which a leader begins its term.
            return Ok((None, Ok(Response::Empty)));
        };
        let Some(op) = understood(command) else {
            // The members that do understand it go on: to skip it would be another state.
            let index = committed.entry.index.0;
            return Err(StateError::NotUnderstood { index });
        };
        if let Some(alarm) = self.forbidden(&op) {
            return Ok((Some(id), Err(alarm)));
        }
        let response = match op {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) => self.write(op, want)?,
            Op::Compaction(request) => self.apply_compaction(request),
            Op::Alarm(request) => Ok(self.apply_alarm(&request)),
            Op::MemberAttributes(attributes) => Ok(self.apply_attributes(attributes)),
            Op::ClusterVersion(version) => Ok(self.apply_version(version)),
            Op::Tree(request) => self.apply_tree(&request, events),
            Op::TreeExpire(request) => {
                Ok(self.apply_expire(&request, committed.entry.term, events))
            }
        };
        Ok((Some(id), response))
    }

    /// A transaction of one kind or another: all of it, then its revision, becomes visible.
    fn write(&mut self, op: Op, want: bool) -> Result<Result<Response, Error>, EngineError> {
        let mut write = Write::new(&self.shared, &self.memtables);
        let result = match op {
            Op::Put(request) => put::check_alone(&write.reads(), &request)
                .map_err(ReadError::from)
                .and_then(|()| put::apply(&mut write, request, want))
                .map(Response::Put),
            Op::DeleteRange(request) => {
                delete::apply(&mut write, &request, want).map(Response::DeleteRange)
            }
            Op::Txn(request) => txn::apply(&mut write, request, want).map(Response::Txn),
            _ => unreachable!("only these three write pairs"),
        };
        let revision = write.revision();
        match result {
            Ok(response) => {
                self.shared.revision.store(revision, Ordering::SeqCst);
                Ok(Ok(response))
            }
            Err(fault) => {
                let error = fault.settle()?;
                assert_eq!(
                    revision,
                    self.shared.revision(),
                    "a refused request changes nothing"
                );
                Ok(Err(error))
            }
        }
    }

    /// What an alarm forbids: CORRUPT everything that changes data, NOSPACE what adds some.
    fn forbidden(&self, op: &Op) -> Option<Error> {
        if self.registry.alarms.is_empty() {
            return None;
        }
        let data = match op {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::Compaction(_) => true,
            Op::Tree(_) | Op::TreeExpire(_) => true,
            Op::Alarm(_) | Op::MemberAttributes(_) | Op::ClusterVersion(_) => false,
        };
        if data && self.registry.alarmed(AlarmType::Corrupt) {
            return Some(Error::Corrupt);
        }
        let grows = quota::cost(op) > 0;
        (grows && self.registry.alarmed(AlarmType::Nospace)).then_some(Error::NoSpace)
    }

    /// Publishes a changed registry.
    pub(super) fn set_registry(&mut self, registry: Registry) {
        self.registry = Arc::new(registry);
        *self.shared.registry.write() = Arc::clone(&self.registry);
    }
}
