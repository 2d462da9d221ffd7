//! The clients: each holds a lease, attaches keys to it, renews it, and at times revokes or
//! abandons it.

use keelson_core::MemberId;
use keelson_core::member::{LeaseOutcome, LessorEvent};
use keelson_core::node::Input;
use keelson_core::state::{self, Response};
use keelson_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use prost::Message;

use super::RenewalOf;
use super::agreed::{LeaseKey, key_of};
use crate::sim::auth::is_denial;
use crate::sim::event::{Event, Waiter};
use crate::sim::world::World;

/// A client with at most one lease.
pub(super) struct Holder {
    /// The id of its lease, or of its next one. An id whose state is unknown is not used again.
    id: i64,
    lease: Option<(LeaseKey, i64)>,
    /// The number of its operation, and when it was sent.
    operation: u64,
    sent: u64,
    kind: Kind,
}

/// The operation in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Grant(i64),
    Put,
    Renew,
    Revoke,
}

/// Ids of different clients are so far apart.
const IDS_APART: u64 = 10_000;

impl Holder {
    pub(super) fn new(number: u64) -> Holder {
        let id = 1 + number * IDS_APART;
        Holder {
            id: i64::try_from(id).expect("a few clients"),
            lease: None,
            operation: 0,
            sent: 0,
            kind: Kind::None,
        }
    }

    /// Abandons the lease, alive or not.
    fn abandon(&mut self) {
        (self.id, self.lease) = (self.id + 1, None);
    }

    /// Its lease, unless a revocation may be on its way.
    pub(super) fn session(&self) -> Option<LeaseKey> {
        let lease = self.lease.filter(|_| self.kind != Kind::Revoke);
        lease.map(|(lease, _)| lease)
    }
}

impl World {
    /// A holder's turn: it sends a request to a member.
    pub(in crate::sim) fn holder_acts(&mut self, number: usize) -> Result<(), String> {
        // Then only sessions that wait for a lock are renewed.
        let is_quiet = self.clients.quiet;
        if is_quiet && !(self.waits_with_lease(number) && self.leases.session(number).is_some()) {
            return Ok(());
        }
        let Some(member) = self.dice.pick(&self.running()) else {
            // No member runs: connection refused.
            self.clock.after(500, Event::Holder(number));
            return Ok(());
        };
        let (now, drawn) = (self.clock.now_ms(), self.dice.between(0, 99));
        let ttl = self.dice.pick(&[2, 2, 3, 5]).expect("not empty");
        let holder = &mut self.leases.holders[number];
        let (id, lease) = (holder.id, holder.lease);
        holder.operation += 1;
        holder.sent = now;
        let operation = holder.operation;
        holder.kind = match (lease, drawn) {
            (None, _) => Kind::Grant(ttl),
            (Some(_), _) if is_quiet => Kind::Renew,
            (Some(_), 0..65) => Kind::Renew,
            (Some(_), 65..85) => Kind::Put,
            (Some(_), 85..93) => Kind::Revoke,
            (Some((lease, _)), _) => {
                holder.abandon();
                self.session_ends(number, lease);
                self.clock.after(1, Event::Holder(number));
                return Ok(());
            }
        };
        let kind = holder.kind;
        if let (Kind::Revoke, Some((lease, _))) = (kind, lease) {
            self.session_ends(number, lease);
        }
        let patience = self.swarm.patience_ms;
        self.clock
            .after(patience, Event::HolderGivesUp(number, operation));
        let op = match kind {
            Kind::Grant(ttl) => Op::LeaseGrant(LeaseGrantRequest { id, ttl }),
            Kind::Put => Op::Put(PutRequest {
                key: key_of(id, operation % 3),
                lease: id,
                ..PutRequest::default()
            }),
            Kind::Revoke => Op::LeaseRevoke(LeaseRevokeRequest { id }),
            Kind::Renew | Kind::None => return self.sends_renewal(number, member, id),
        };
        let caller = self.holder_at(member, number);
        let op = Some(self.signed(member, &caller, op));
        let command = Command { op }.encode_to_vec().into();
        if let Some(name) = self.name_proposal(member) {
            self.waiting.insert(name, Waiter::Holder(number, operation));
            self.input(member, Input::Propose { id: name, command });
        }
        Ok(())
    }

    fn sends_renewal(&mut self, number: usize, member: MemberId, id: i64) -> Result<(), String> {
        let operation = self.leases.holders[number].operation;
        let at = (member, self.boot(member));
        self.renews(at, id, RenewalOf::Holder(number, operation));
        Ok(())
    }

    /// The request reaches the member's lessor at once, or when its process goes on.
    pub(in crate::sim) fn renews(&mut self, at: (MemberId, u64), id: i64, of: RenewalOf) {
        self.leases.last_number += 1;
        let request = self.leases.last_number;
        self.leases.renewals.insert((at.0, at.1, request), of);
        self.clock.after(0, Event::Renewal(at.0, at.1, request, id));
    }

    /// A renewal has reached a member.
    pub(in crate::sim) fn renewal_arrives(
        &mut self,
        member: MemberId,
        number: u64,
        id: i64,
    ) -> Result<(), String> {
        let renew = true;
        self.lessor_takes(member, LessorEvent::Requested { number, id, renew })
    }

    /// Whether the holder still waits for that operation.
    fn waits(&self, number: usize, operation: u64) -> bool {
        let holder = &self.leases.holders[number];
        holder.operation == operation && holder.kind != Kind::None
    }

    /// The outcome of the operation is unknown.
    pub(in crate::sim) fn holder_gives_up(&mut self, number: usize, operation: u64) {
        if !self.waits(number, operation) {
            return;
        }
        let holder = &mut self.leases.holders[number];
        if matches!(holder.kind, Kind::Grant(_) | Kind::Revoke) {
            holder.abandon();
        }
        self.leave(Waiter::Holder(number, operation));
        self.holder_goes_on(number);
    }

    /// The operation ends; the holder goes on after a pause, in which its lease may expire.
    fn holder_goes_on(&mut self, number: usize) {
        let holder = &mut self.leases.holders[number];
        holder.kind = Kind::None;
        let most = match holder.lease {
            Some((_, ttl)) => ttl.unsigned_abs() * 800,
            None => 500,
        };
        let pause = self.dice.between(1, most);
        self.clock.after(pause, Event::Holder(number));
    }

    /// The client abandons its lease, if it still holds that one, with the operation in progress.
    pub(in crate::sim) fn end_session(&mut self, number: usize, session: LeaseKey) {
        let holder = &mut self.leases.holders[number];
        if holder.lease.is_none_or(|(lease, _)| lease != session) {
            return;
        }
        holder.abandon();
        if holder.kind != Kind::None {
            let operation = Waiter::Holder(number, holder.operation);
            self.leave(operation);
            self.holder_goes_on(number);
        }
    }

    /// A proposal is certainly not in the log.
    pub(in crate::sim) fn holder_refused(&mut self, number: usize, operation: u64) {
        if self.waits(number, operation) {
            self.holder_goes_on(number);
        }
    }

    /// A proposal is applied.
    pub(in crate::sim) fn holder_answered(
        &mut self,
        number: usize,
        operation: u64,
        response: Result<Response, state::Error>,
    ) -> Result<(), String> {
        if !self.waits(number, operation) {
            return Ok(());
        }
        let agreed = &mut self.leases.agreed;
        let holder = &mut self.leases.holders[number];
        match (holder.kind, response) {
            (Kind::Grant(ttl), Ok(_)) => {
                let lease = agreed
                    .last(holder.id)
                    .ok_or("a grant that is not committed")?;
                agreed.promise(lease, holder.sent, ttl)?;
                holder.lease = Some((lease, ttl));
            }
            (Kind::Put, Ok(_)) => {}
            (Kind::Revoke, Ok(_)) => holder.lease = None,
            (Kind::Put | Kind::Revoke, Err(state::Error::LeaseNotFound)) => {
                let lease = holder.lease.take().map(|(lease, _)| lease);
                if lease.is_some_and(|lease| agreed.is_alive(lease)) {
                    return Err(format!("leases: {lease:?} is there and was not found"));
                }
                if let Some(lease) = lease {
                    self.session_ends(number, lease);
                }
            }
            (_, Err(error)) if is_denial(&error.to_string()) => self.tally.denied_sessions += 1,
            (kind, response) => return Err(format!("leases: {kind:?} got {response:?}")),
        }
        self.holder_goes_on(number);
        Ok(())
    }

    /// A renewal is answered.
    pub(super) fn renewal_ends(
        &mut self,
        number: usize,
        operation: u64,
        outcome: LeaseOutcome,
    ) -> Result<(), String> {
        if !self.waits(number, operation) {
            return Ok(());
        }
        let agreed = &mut self.leases.agreed;
        let holder = &mut self.leases.holders[number];
        let Some((lease, ttl)) = holder.lease else {
            return Err("leases: a renewal without a lease".to_owned());
        };
        match outcome {
            LeaseOutcome::Alive { ttl: left, .. } if left == ttl => {
                agreed.promise(lease, holder.sent, ttl)?;
                self.session_renewed(lease)?;
            }
            LeaseOutcome::Absent if !agreed.is_alive(lease) => {
                holder.lease = None;
                self.session_ends(number, lease);
            }
            LeaseOutcome::TimedOut => {}
            other => return Err(format!("leases: {lease:?} is there, and got {other:?}")),
        }
        self.holder_goes_on(number);
        Ok(())
    }
}
