//! Times of leases: renewals, expiries and checkpoints, on the leader, and the way there from a
//! follower.
//!
//! The state holds no times (`state/leases.rs`). The leader notes on its own clock when each lease
//! expires, renews leases in memory without a log entry, and proposes expiries. What it must never
//! do is to expire a lease whose client was promised more time, by this or an earlier leader:
//!
//! * An expiry names the leader's term and has no effect in an entry of another one.
//! * A renewal is noted first. Only then begins a round of heartbeats that confirms the leadership,
//!   and the client is answered after that round. So every later leader is elected after the
//!   renewal was noted, and gives the lease its whole time to live from then on. With the round
//!   before the renewal, a new leader could be elected between the two, and its expiry would come
//!   earlier than promised.
//! * A later leader begins with the remaining time in the state if there is one. So a renewal of
//!   such a lease waits until an entry has cleared it. All checkpoints of a leader go through one
//!   proposal at a time, which keeps their order.
//! * A leader begins when all entries of earlier terms are applied, and adds an extension to every
//!   lease: the owners could not renew meanwhile. It extends them as well when it stood still.

mod calls;
mod leader;
mod proposal;
mod tenure;

use std::collections::BTreeSet;

use keelson_proto::internal::command::Op;
use keelson_proto::internal::{LeaseName, LeaseRemaining};
use keelson_proto::peer::{LeaseAnswer, LeaseRequest, LeaseTime, PeerMessage};

use crate::node::{Role, SoftState};
use crate::state::{LeaseChange, ReadView};
use crate::{MemberId, Millis};
use calls::{Call, Calls};
use proposal::Proposal;
use tenure::LeaseTenure;

/// An event for the lessor.
#[derive(Debug)]
pub enum LessorEvent {
    /// `wake_at` has come, or the soft state has changed.
    Woken,
    /// A client of this member requests the renewal of a lease, or its times.
    Requested {
        /// The number of the request, for [`LessorEffects::answers`].
        number: u64,
        /// The lease.
        id: i64,
        /// Whether it is to be renewed.
        renew: bool,
    },
    /// A message of another member.
    Peer(MemberId, LeaseMessage),
    /// Entries have changed leases. Every change that is applied while this member leads comes, in
    /// order.
    Changed(Vec<LeaseChange>),
    /// Some changes did not come.
    Missed,
    /// The request of that number is complete: the read is done, or the proposal is applied.
    Done(u64),
    /// The request of that number has failed. A proposal may still be applied.
    Failed(u64),
}

/// A message about leases between members.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseMessage {
    /// From a follower.
    Request(LeaseRequest),
    /// From the leader, or from a member that was it.
    Answer(LeaseAnswer),
}

/// The answer to a request about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// It exists.
    Alive {
        /// The granted time to live, in seconds.
        granted_ttl: i64,
        /// What is left of it, in seconds: all after a renewal.
        ttl: i64,
    },
    /// There is no such lease.
    Absent,
    /// The request has reached its deadline.
    TimedOut,
}

impl LeaseOutcome {
    fn time(self, id: i64) -> LeaseTime {
        match self {
            LeaseOutcome::Alive { granted_ttl, ttl } => LeaseTime {
                id,
                granted_ttl,
                ttl,
            },
            _ => LeaseTime {
                id,
                ..LeaseTime::default()
            },
        }
    }
}

impl From<LeaseTime> for LeaseOutcome {
    fn from(time: LeaseTime) -> LeaseOutcome {
        match time.granted_ttl {
            0 => LeaseOutcome::Absent,
            granted_ttl => LeaseOutcome::Alive {
                granted_ttl,
                ttl: time.ttl,
            },
        }
    }
}

/// Effects of the lessor.
#[derive(Debug, Default)]
pub struct LessorEffects {
    /// Messages to other members.
    pub send: Vec<(MemberId, PeerMessage)>,
    /// Answers to requests of this member's clients, by their numbers.
    pub answers: Vec<(u64, LeaseOutcome)>,
    /// Perform a linearizable read with this number: wait until everything committed now is
    /// applied.
    pub read: Option<u64>,
    /// Propose these, each with its number.
    pub propose: Vec<(u64, Op)>,
    /// The latest time of the next call.
    pub wake_at: Millis,
}

/// Keeps the times of leases while this member leads; forwards requests while it does not.
#[derive(Debug)]
pub struct Lessor {
    incarnation: u64,
    extension_ms: u64,
    timeout_ms: u64,
    soft_state: Option<SoftState>,
    tenure: Option<LeaseTenure>,
    /// The cluster was a standby at the last call.
    is_standby: bool,
    /// The read before a tenure.
    begin: Proposal<()>,
    expiry: Proposal<LeaseName>,
    checkpoint: Proposal<LeaseRemaining>,
    /// No read that confirms renewals begins before: the last one has failed.
    read_at: Millis,
    /// Leases whose remaining times must be cleared.
    to_clear: BTreeSet<i64>,
    calls: Calls,
    /// The number of the last read or proposal.
    last_number: u64,
    /// The `wake_at` of the last call.
    planned: Millis,
}

impl Lessor {
    /// The lessor of this incarnation of a member. A new leader extends every lease by
    /// `extension_ms`. A request of a client ends after `timeout_ms`.
    pub fn new(incarnation: u64, extension_ms: u64, timeout_ms: u64) -> Lessor {
        Lessor {
            incarnation,
            extension_ms,
            timeout_ms,
            soft_state: None,
            tenure: None,
            is_standby: false,
            begin: Proposal::default(),
            expiry: Proposal::default(),
            checkpoint: Proposal::default(),
            read_at: Millis(0),
            to_clear: BTreeSet::new(),
            calls: Calls::default(),
            last_number: 0,
            planned: Millis(u64::MAX),
        }
    }

    /// Processes events. `now` is monotonic; `soft_state` and `view` are those of the present. A
    /// leader whose state differs from the majority's does nothing from it, and waits until another
    /// member leads.
    pub fn handle(
        &mut self,
        now: Millis,
        soft_state: SoftState,
        view: &ReadView,
        events: impl IntoIterator<Item = LessorEvent>,
    ) -> LessorEffects {
        let mut effects = LessorEffects::default();
        let soft_state = match soft_state.role {
            Role::Leader if view.is_fenced() => SoftState {
                leader: MemberId::NONE,
                role: Role::Follower,
                ..soft_state
            },
            _ => soft_state,
        };
        self.note_soft_state(soft_state, &mut effects);
        self.note_stall(now);
        for event in events {
            self.take(now, view, event, &mut effects);
        }
        self.give_up_late(now);
        match soft_state.role {
            Role::Leader => self.lead(now, soft_state.term, view, &mut effects),
            _ => {
                let leader = soft_state.leader;
                let forwarded = |call: &mut Call| matches!(call.origin, calls::Origin::Peer { .. });
                let others = self.calls.waiting.extract_if(.., forwarded).collect();
                self.calls.refuse(others, &mut effects);
                self.calls
                    .forward(now, leader, self.incarnation, &mut effects);
            }
        }
        self.calls.send_answers(&mut effects);
        self.calls.drop_late(now, &mut effects);
        effects.wake_at = self.wake_at(now);
        self.planned = effects.wake_at;
        effects
    }

    /// Ends the tenure when the leader or the term changes.
    fn note_soft_state(&mut self, soft_state: SoftState, effects: &mut LessorEffects) {
        if self.soft_state == Some(soft_state) {
            return;
        }
        self.soft_state = Some(soft_state);
        self.tenure = None;
        self.begin = Proposal::default();
        self.expiry = Proposal::default();
        self.checkpoint = Proposal::default();
        self.to_clear.clear();
        self.calls.begin_again(effects);
    }

    /// A leader that stood still could not renew what its clients requested meanwhile.
    fn note_stall(&mut self, now: Millis) {
        let late_ms = now.0.saturating_sub(self.planned.0);
        if let Some(tenure) = &mut self.tenure
            && self.extension_ms < late_ms
        {
            tenure.hold(Millis(now.0 + self.extension_ms));
        }
    }

    fn take(
        &mut self,
        now: Millis,
        view: &ReadView,
        event: LessorEvent,
        effects: &mut LessorEffects,
    ) {
        let until = Millis(now.0.saturating_add(self.timeout_ms));
        match event {
            LessorEvent::Woken => {}
            LessorEvent::Requested { number, id, renew } => {
                self.calls.add(number, id, renew, until);
            }
            LessorEvent::Peer(from, LeaseMessage::Request(request)) => {
                self.calls.add_forwarded(from, request, until);
            }
            LessorEvent::Peer(_, LeaseMessage::Answer(answer)) => {
                if answer.boot == self.incarnation {
                    self.calls.answered(now, answer, effects);
                }
            }
            LessorEvent::Changed(changes) => self.note_changes(now, &changes),
            LessorEvent::Missed => self.note_missed(now, view),
            LessorEvent::Done(number) => self.done(now, view, number, effects),
            LessorEvent::Failed(number) => self.failed(now, number),
        }
    }

    fn wake_at(&self, now: Millis) -> Millis {
        let calls = self.calls.wake_at(now);
        let leads = self
            .soft_state
            .is_some_and(|state| state.role == Role::Leader);
        let Some(tenure) = &self.tenure else {
            let begin = leads.then(|| self.begin.wake_at(now));
            return begin.map_or(calls, |begin| calls.min(begin));
        };
        let (expiry, checkpoint) = tenure.wake_at();
        let checkpoint = match self.to_clear.is_empty() {
            true => checkpoint,
            false => now,
        };
        let read = match self.calls.unconfirmed.is_empty() {
            true => Millis(u64::MAX),
            false => self.read_at,
        };
        let due = calls
            .min(read)
            .min(self.expiry.wake_at(expiry))
            .min(self.checkpoint.wake_at(checkpoint));
        // More often than the leases need it, so that a stall is noticed.
        match tenure.is_empty() {
            true => due,
            false => due.min(Millis(now.0 + self.extension_ms.max(1))),
        }
    }
}

#[cfg(test)]
mod tests;
