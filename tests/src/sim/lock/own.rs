//! The session of a call that names no lease, as in the product's `v3/session.rs`: its member
//! grants a lease, renews it at each third of its time while the call waits, and revokes it when
//! the call is given up. An answer makes it the client's.

use keelson_core::member::LeaseOutcome;
use keelson_proto::etcdserverpb::LeaseGrantRequest;
use keelson_proto::internal::command::Op;

use super::CallEvent;
use super::calls::Call;
use crate::sim::event::Event;
use crate::sim::lease::{LeaseKey, RenewalOf};
use crate::sim::mutant::Mutant;
use crate::sim::world::World;

/// No holder of a lease has such ids.
const IDS_FROM: i64 = 1_000_000_000;

/// A lease is gone so many milliseconds after its call has ended, in calm: its time to live, the
/// extension of a new leader, and a renewal that was on its way.
const GONE_MS: u64 = 12_000;

/// The session of a call.
pub(super) struct OwnSession {
    pub(super) id: i64,
    /// In seconds.
    ttl: i64,
    /// When the grant or the last renewal was sent.
    sent: u64,
    /// How many renewals were due, and how many were sent since the last answer.
    due: u64,
    unanswered: u64,
    /// When the next renewal is due.
    next: u64,
}

impl World {
    pub(super) fn new_session(&mut self) -> OwnSession {
        let number = i64::try_from(self.locks.next_number()).unwrap_or(i64::MAX);
        OwnSession {
            id: IDS_FROM.saturating_add(number),
            ttl: self.dice.pick(&[2, 3, 5]).expect("not empty"),
            sent: self.clock.now_ms(),
            due: 0,
            unanswered: 0,
            next: u64::MAX,
        }
    }

    /// The grant of a call's session; `None` where the client has one.
    pub(super) fn grant_of(&self, number: u64) -> Option<Op> {
        let own = self.locks.calls.get(&number)?.own.as_ref()?;
        let (id, ttl) = (own.id, own.ttl);
        Some(Op::LeaseGrant(LeaseGrantRequest { id, ttl }))
    }

    fn own(&mut self, number: u64) -> Option<(&mut OwnSession, LeaseKey)> {
        let own = self.locks.calls.get_mut(&number)?.own.as_mut()?;
        let lease = self.leases.last(own.id)?;
        Some((own, lease))
    }

    /// The lease is granted.
    pub(super) fn session_granted(&mut self, number: u64) -> Result<(), String> {
        match self.own(number) {
            Some((own, lease)) => {
                let (sent, ttl) = (own.sent, own.ttl);
                self.leases.promise(lease, sent, ttl)
            }
            None => Err("locks: a session that is not committed".to_owned()),
        }
    }

    /// The first renewal is due a third of the time after the call has begun to wait.
    pub(super) fn plan_renewal(&mut self, number: u64) {
        let now = self.clock.now_ms();
        let Some(call) = self.locks.calls.get_mut(&number) else {
            return;
        };
        if let Some(own) = &mut call.own {
            let wait = own.ttl.unsigned_abs() * 1_000 / 3;
            own.next = now + wait;
            let event = Event::LockCall(call.at.0, call.at.1, number, CallEvent::Renews);
            self.clock.after(wait, event);
        }
    }

    /// A renewal is due, of a call that waits.
    pub(super) fn call_renews(&mut self, number: u64) {
        let now = self.clock.now_ms();
        let Some(call) = self.locks.calls.get_mut(&number) else {
            return;
        };
        let at = call.at;
        let Some(own) = &mut call.own else {
            return;
        };
        own.due += 1;
        if self.mutant == Some(Mutant::OwnSessionEnds) {
            return self.plan_renewal(number);
        }
        (own.unanswered, own.next, own.sent) = (own.unanswered + 1, u64::MAX, now);
        let id = own.id;
        self.renews(at, id, RenewalOf::Call(number));
    }

    /// A renewal is answered. The call may have ended meanwhile.
    pub(in crate::sim) fn call_renewed(
        &mut self,
        number: u64,
        outcome: LeaseOutcome,
    ) -> Result<(), String> {
        if !self.locks.calls.get(&number).is_some_and(Call::waits) {
            return Ok(());
        }
        if let Some((own, lease)) = self.own(number)
            && matches!(outcome, LeaseOutcome::Alive { ttl, .. } if ttl == own.ttl)
        {
            own.unanswered = 0;
            let (sent, ttl) = (own.sent, own.ttl);
            self.leases.promise(lease, sent, ttl)?;
        }
        self.plan_renewal(number);
        Ok(())
    }

    /// The key of a call that waits is gone: its session must have ended although it was renewed.
    pub(super) fn check_own_session(&mut self, number: u64) -> Result<(), String> {
        let now = self.clock.now_ms();
        let Some((own, lease)) = self.own(number) else {
            return Ok(());
        };
        let (due, unanswered, next) = (own.due, own.unanswered, own.next);
        let promised = self.leases.promised(lease);
        if now < promised {
            return Err(format!(
                "locks: the key of {lease:?} is gone, which was promised until {promised}"
            ));
        }
        match due != 0 && unanswered == 0 && now <= next {
            true => Err(format!(
                "locks: {lease:?} of a call that waits is not renewed"
            )),
            false => Ok(()),
        }
    }

    /// A call is answered, or given up: its session is not renewed any more.
    pub(super) fn session_is_left(&mut self, number: u64) {
        let now = self.clock.now_ms();
        if let Some((_, lease)) = self.own(number) {
            self.locks.ended.push((lease, now));
        }
    }

    /// In calm the sessions of calls that have ended are gone soon.
    pub(in crate::sim) fn sessions_have_ended(&self) -> Result<(), String> {
        let now = self.clock.now_ms();
        let mut ended = self.locks.ended.iter();
        let is_left =
            |(lease, at): &&(LeaseKey, u64)| at + GONE_MS < now && self.leases.is_alive(*lease);
        match ended.find(is_left) {
            Some((lease, at)) => Err(format!(
                "locks: {lease:?} is there at {now}, and its call has ended at {at}"
            )),
            None => Ok(()),
        }
    }
}
