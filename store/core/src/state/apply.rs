//! Application of committed entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{AlarmType, TxnRequest};
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::hash_check::Step as HashStep;
use keelson_proto::internal::tree_request::Op as TreeOp;
use prost::Message;

use super::auth::{Access, Caller};
use super::error::{Error, StateError};
use super::leases::LeaseChange;
use super::registry::Registry;
use super::running::HashOutcome;
use super::shared::ReadError;
use super::write::Write;
use super::{Applied, COMMAND_VERSION, Response, StateMachine, delete, gate, put, quota, txn};
use crate::engine::EngineError;
use crate::tree::Event;
use crate::{Committed, EntryKind, ProposalId, proposal};

/// The id of a request, and its response.
pub(super) type Answer = (Option<ProposalId>, Result<Response, Error>);

/// What an entry does besides its answer.
#[derive(Default)]
pub(super) struct SideEffects {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) leases: Vec<LeaseChange>,
    pub(super) hash: Option<HashOutcome>,
}

/// Decodes a command; `None` if this release does not understand it.
pub(super) fn understood(command: Bytes) -> Option<Op> {
    let op = Command::decode(command).ok()?.op?;
    is_known(&op).then_some(op)
}

/// Whether a decoded command is complete: a kind that this release lacks is decoded as nothing.
fn is_known(op: &Op) -> bool {
    match op {
        Op::Tree(request) => TreeOp::try_from(request.op).is_ok(),
        Op::Txn(request) => has_known_operations(request),
        Op::Auth(change) => change.op.is_some(),
        Op::HashCheck(check) => HashStep::try_from(check.step).is_ok(),
        Op::AsUser(of) => match of.command.as_ref().and_then(|command| command.op.as_ref()) {
            None | Some(Op::AsUser(_)) => false,
            Some(op) => is_known(op),
        },
        _ => true,
    }
}

/// Whether every operation of a transaction is of a known kind, also in the branch that is not
/// taken. A client cannot send any other (`check::txn`).
fn has_known_operations(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| match &op.request {
        Some(Request::RequestTxn(nested)) => has_known_operations(nested),
        known => known.is_some(),
    })
}

/// Whether this release can apply the command. A leader appends no other, from any member.
pub fn is_understood(command: &Bytes) -> bool {
    understood(command.clone()).is_some()
}

impl StateMachine {
    /// Applies an entry. One that was applied before is ignored; a gap is a bug in the caller.
    /// `want_response` is false if the response is not needed: it may then lack pairs and range
    /// results, and nothing else differs.
    ///
    /// # Errors
    /// Fatal. Either the engine failed, and the entry may be half applied in memory. Or this
    /// release does not understand the entry, of which nothing is applied: a newer release must
    /// continue from it.
    pub fn apply(
        &mut self,
        committed: &Committed,
        want_response: bool,
    ) -> Result<Applied, StateError> {
        let entry = &committed.entry;
        if entry.index.0 <= self.mark.index {
            return Ok(self.outcome((None, Ok(Response::Empty)), SideEffects::default()));
        }
        assert_eq!(
            entry.index.0,
            self.mark.index + 1,
            "entries are applied in order, without gaps"
        );
        let mut effects = SideEffects::default();
        let answer = match entry.kind {
            EntryKind::Command => self.apply_command(committed, want_response, &mut effects)?,
            EntryKind::Membership => self.apply_membership(committed)?,
        };
        self.hash.word(entry.index.0);
        self.hash.word(self.shared.revision() as u64);
        self.mark.index = entry.index.0;
        self.mark.term = entry.term.0;
        self.shared.applied.store(entry.index.0, Ordering::SeqCst);
        Ok(self.outcome(answer, effects))
    }

    /// Whether the release that this one is, or pretends to be, has such a command.
    fn is_known(&self, op: &Op) -> bool {
        self.command_version == COMMAND_VERSION || gate::needed(op) <= self.command_version
    }

    fn outcome(&self, (id, response): Answer, effects: SideEffects) -> Applied {
        Applied {
            id,
            response,
            revision: self.shared.revision(),
            events: effects.events,
            leases: effects.leases,
            hash: effects.hash,
        }
    }

    fn apply_command(
        &mut self,
        committed: &Committed,
        want_response: bool,
        effects: &mut SideEffects,
    ) -> Result<Answer, StateError> {
        let Some((id, command)) = proposal::decode(&committed.entry.data) else {
            // The empty entry with which a leader begins its term.
            return Ok((None, Ok(Response::Empty)));
        };
        let Some(op) = understood(command).filter(|op| self.is_known(op)) else {
            // Members of newer releases apply it: to skip it would make the states differ.
            let index = committed.entry.index.0;
            return Err(StateError::NotUnderstood { index });
        };
        let (caller, Some(op)) = Caller::of(op) else {
            unreachable!("it is understood");
        };
        if let Err(refusal) = self.view().authorize(&caller, Access::Command(&op)) {
            return Ok((Some(id), Err(refusal)));
        }
        let refusal = self.too_new(&op).or_else(|| self.refused_here(&op));
        if let Some(refusal) = refusal.or_else(|| self.forbidden(&op)) {
            return Ok((Some(id), Err(refusal)));
        }
        let response = match op {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) => self.write(op, want_response)?,
            Op::Compaction(request) => self.apply_compaction(request),
            Op::Alarm(request) => Ok(self.apply_alarm(&request)),
            Op::MemberAttributes(attributes) => Ok(self.apply_attributes(attributes)),
            Op::ClusterVersion(version) => Ok(self.apply_version(version)),
            Op::Downgrade(request) => self.apply_downgrade(request),
            Op::Tree(request) => self.apply_tree(&request, &mut effects.events),
            Op::TreeExpire(request) => {
                Ok(self.apply_expire(&request, committed.entry.term, &mut effects.events))
            }
            Op::Auth(change) => self.apply_auth(change, committed.entry.index),
            Op::Replicate(request) => self.apply_replicate(request, committed.entry.index, effects),
            Op::HashCheck(check) => {
                Ok(self.apply_hash_check(&check, committed.entry.index, &mut effects.hash))
            }
            lease => self.apply_lease(&lease, committed, &mut effects.leases),
        };
        Ok((Some(id), response))
    }

    /// Applies a put, delete or transaction. Its changes become visible together, with its
    /// revision.
    fn write(
        &mut self,
        op: Op,
        want_response: bool,
    ) -> Result<Result<Response, Error>, EngineError> {
        let mut write = Write::new(&self.shared, &self.memtables, &mut self.hash);
        let result = match op {
            Op::Put(request) => put::check_alone(&write.reads(), &request)
                .map_err(ReadError::from)
                .and_then(|()| put::apply(&mut write, request, want_response))
                .map(Response::Put),
            Op::DeleteRange(request) => {
                delete::apply(&mut write, &request, want_response).map(Response::DeleteRange)
            }
            Op::Txn(request) => txn::apply(&mut write, request, want_response).map(Response::Txn),
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

    /// The error if an active alarm forbids the command: CORRUPT forbids every change of data,
    /// NOSPACE what adds data.
    fn forbidden(&self, op: &Op) -> Option<Error> {
        if self.registry.alarms.is_empty() {
            return None;
        }
        let data = match op {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::Compaction(_) => true,
            Op::Tree(_) | Op::TreeExpire(_) => true,
            Op::LeaseGrant(_) | Op::LeaseRevoke(_) | Op::LeaseExpire(_) => true,
            Op::Alarm(_) | Op::MemberAttributes(_) | Op::ClusterVersion(_) => false,
            Op::Downgrade(_) => false,
            Op::LeaseCheckpoint(_) | Op::Auth(_) | Op::AsUser(_) | Op::Replicate(_) => false,
            Op::HashCheck(_) => false,
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
