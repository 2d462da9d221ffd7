//! Elections: locks whose holder has a value, which it replaces while it leads.
//!
//! A contender campaigns as others call for a lock. Then it proclaims some values and resigns, each
//! by the transaction of the product's `v3/election.rs`. A proclaim must succeed exactly if the
//! leader's key was there.

use bytes::Bytes;
use keelson_core::lock;
use keelson_core::state::{self, Response};
use keelson_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest, TxnResponse};
use keelson_proto::internal::command::Op;

use super::contenders::{State, name_of};
use crate::sim::auth::is_denial;
use crate::sim::event::Event;
use crate::sim::lease::LeaseKey;
use crate::sim::mutant::Mutant;
use crate::sim::world::World;

impl World {
    /// The value of a campaign or proclaim; none where locks are no elections.
    pub(super) fn next_value(&mut self) -> Option<Bytes> {
        self.swarm.leases.elections.then(|| {
            let number = self.locks.next_number();
            Bytes::from(format!("leader{number}"))
        })
    }

    /// The operation of a leader: its key must be that of its campaign.
    fn as_leader(&self, number: usize, session: LeaseKey, op: RequestOp, checked: bool) -> Op {
        let contender = &self.locks.contenders[number];
        let key = lock::Place::new(name_of(contender.lock), session.0)
            .key()
            .clone();
        Op::Txn(match checked {
            true => lock::when(
                lock::created_at(key, contender.created),
                vec![op],
                Vec::new(),
            ),
            false => TxnRequest {
                success: vec![op],
                ..TxnRequest::default()
            },
        })
    }

    /// The resignation of a leader.
    pub(super) fn resignation(&self, number: usize, session: LeaseKey, key: Bytes) -> Op {
        self.as_leader(number, session, lock::delete(key), true)
    }

    /// A leader replaces its value.
    pub(super) fn proclaims(&mut self, number: usize, session: LeaseKey) {
        let operation = self.locks.next_number();
        let value = self.next_value().unwrap_or_default();
        let contender = &mut self.locks.contenders[number];
        contender.state = State::Proclaims {
            number: operation,
            session,
        };
        let place = lock::Place::new(name_of(contender.lock), session.0);
        // A mutant's has no lease: that may be gone, and is another check.
        let checked = self.mutant != Some(Mutant::ProclaimUnchecked);
        let lease = if checked { session.0 } else { 0 };
        let put = lock::put(place.key().clone(), value, lease);
        let op = self.as_leader(number, session, put, checked);
        let patience = self.swarm.patience_ms;
        self.clock
            .after(patience, Event::Contender(number, Some(operation)));
        self.contender_proposes(number, operation, op);
    }

    /// A proclaim is applied, or certainly not in the log.
    pub(super) fn proclaim_ends(
        &mut self,
        number: usize,
        session: LeaseKey,
        response: Option<Result<Response, state::Error>>,
    ) -> Result<(), String> {
        let is_leader = match response {
            // Its key may be there with a lease that is not: it is about to end.
            None | Some(Err(state::Error::LeaseNotFound)) => true,
            Some(Err(error)) if is_denial(&error.to_string()) => true,
            Some(Ok(Response::Txn(answer))) => self.check_proclaim(number, session, &answer)?,
            other => return Err(format!("elections: a proclaim got {other:?}")),
        };
        match is_leader {
            true => self.locks.contenders[number].state = State::Holds(session),
            // It takes its session for lost.
            false => {
                self.locks.held.release(session);
                self.locks.contenders[number].state = State::Idle;
                self.end_session(number, session);
            }
        }
        self.contender_pauses(number, 500);
        Ok(())
    }

    /// Returns whether a proclaim has succeeded, which the leader's key must explain.
    fn check_proclaim(
        &self,
        number: usize,
        session: LeaseKey,
        answer: &TxnResponse,
    ) -> Result<bool, String> {
        let contender = &self.locks.contenders[number];
        let place = lock::Place::new(name_of(contender.lock), session.0);
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let request = RangeRequest {
            key: place.key().clone(),
            revision: revision - i64::from(answer.succeeded),
            ..RangeRequest::default()
        };
        let before = self.watches.model.range(&request);
        let before = before.map_err(|error| format!("elections: {error:?}"))?;
        let created = before.kvs.first().map(|kv| kv.create_revision);
        let leads = created == Some(contender.created);
        match leads == answer.succeeded {
            true => Ok(answer.succeeded),
            false => Err(format!(
                "elections: a proclaim of {contender:?} got {answer:?}, with the key of {created:?}"
            )),
        }
    }
}
