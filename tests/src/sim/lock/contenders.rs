//! The clients: each calls for a lock with the lease that it holds, and unlocks after a while.
//!
//! A client gives a call up when it lasts too long. It may repeat it with the same session, at
//! another member, before the first member has noticed. It ends its session after an unlock without
//! an answer: that may be applied later, and then would delete the key of the next call.

use bytes::Bytes;
use keelson_core::node::Input;
use keelson_core::state::{self, Response};
use keelson_core::{MemberId, lock};
use keelson_proto::etcdserverpb::DeleteRangeRequest;
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use prost::Message;

use super::CallEvent;
use crate::sim::auth::is_denial;
use crate::sim::event::{Event, Waiter};
use crate::sim::lease::LeaseKey;
use crate::sim::world::World;

/// The interval at which a client that goes on waiting looks for its call's member, in
/// milliseconds.
const AGAIN_MS: u64 = 1_000;

/// Probability that a call has no lease.
const OWN_SESSIONS: f64 = 0.3;

/// One client, beside the holder of the lease.
#[derive(Debug, Default)]
pub(super) struct Contender {
    pub(super) lock: u64,
    /// The revision at which the key of its last lock was created.
    pub(super) created: i64,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum State {
    #[default]
    Idle,
    /// It waits for the answer to a call, at a member.
    Calls {
        number: u64,
        /// `None`: one of the call's own.
        session: Option<LeaseKey>,
        at: (MemberId, u64),
    },
    Holds(LeaseKey),
    /// It leads, and waits for the answer to a proclaim.
    Proclaims {
        number: u64,
        session: LeaseKey,
    },
    /// It waits for the answer to an unlock.
    Unlocks {
        number: u64,
        session: LeaseKey,
    },
}

impl State {
    /// Whether its session holds the lock, and has not begun to give it back.
    fn is_of_holder(self, session: LeaseKey) -> bool {
        match self {
            State::Holds(of) | State::Proclaims { session: of, .. } => of == session,
            _ => false,
        }
    }
}

/// A lock's name. Only holders of leases write its keys.
pub(super) fn name_of(lock: u64) -> Bytes {
    Bytes::from(format!("lock{lock}"))
}

impl World {
    /// A contender's turn.
    pub(in crate::sim) fn contender_acts(&mut self, number: usize) {
        let session = self.leases.session(number);
        match self.locks.contenders[number].state {
            State::Idle if self.clients.quiet => {}
            State::Idle => {
                let is_own = self.dice.chance(OWN_SESSIONS);
                let session = session.filter(|_| !is_own);
                match self.dice.pick(&self.running()) {
                    Some(member) if is_own || session.is_some() => {
                        self.calls(number, session, member);
                    }
                    _ => self.contender_pauses(number, 500),
                }
            }
            State::Holds(session)
                if self.swarm.leases.elections && !self.clients.quiet && self.dice.chance(0.6) =>
            {
                self.proclaims(number, session);
            }
            State::Holds(session) => self.unlocks(number, session),
            State::Calls { .. } | State::Proclaims { .. } | State::Unlocks { .. } => {}
        }
    }

    pub(super) fn contender_pauses(&mut self, number: usize, most_ms: u64) {
        let pause = self.dice.between(1, most_ms);
        self.clock.after(pause, Event::Contender(number, None));
    }

    /// The call reaches the member at once, or when its process goes on.
    fn calls(&mut self, number: usize, session: Option<LeaseKey>, member: MemberId) {
        let lock = self.dice.between(0, self.swarm.leases.locks - 1);
        let at = (member, self.boot(member));
        let call = self.locks.next_number();
        self.locks.contenders[number] = Contender {
            lock,
            created: 0,
            state: State::Calls {
                number: call,
                session,
                at,
            },
        };
        let arrives = CallEvent::Arrives {
            contender: number,
            lock,
            lease: session.map_or(0, |session| session.0),
        };
        self.clock
            .after(0, Event::LockCall(at.0, at.1, call, arrives));
        let patience = self.dice.between(500, 10_000);
        self.clock
            .after(patience, Event::Contender(number, Some(call)));
    }

    fn unlocks(&mut self, number: usize, session: LeaseKey) {
        self.locks.held.release(session);
        let unlock = self.locks.next_number();
        let contender = &mut self.locks.contenders[number];
        contender.state = State::Unlocks {
            number: unlock,
            session,
        };
        let key = lock::Place::new(name_of(contender.lock), session.0)
            .key()
            .clone();
        let patience = self.swarm.patience_ms;
        self.clock
            .after(patience, Event::Contender(number, Some(unlock)));
        let op = match self.swarm.leases.elections {
            true => self.resignation(number, session, key),
            false => Op::DeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
        };
        self.contender_proposes(number, unlock, op);
    }

    /// Sends an operation of a holder or a leader to a member.
    pub(super) fn contender_proposes(&mut self, number: usize, operation: u64, op: Op) {
        let member = self.dice.pick(&self.running());
        if let Some(member) = member
            && let Some(id) = self.name_proposal(member)
        {
            let caller = self.holder_at(member, number);
            let op = Some(self.signed(member, &caller, op));
            let command = Command { op }.encode_to_vec().into();
            self.waiting.insert(id, Waiter::Unlock(number, operation));
            self.input(member, Input::Propose { id, command });
        }
    }

    /// An unlock is applied, or certainly not in the log.
    pub(in crate::sim) fn unlock_ends(
        &mut self,
        number: usize,
        operation: u64,
        response: Option<Result<Response, state::Error>>,
    ) -> Result<(), String> {
        let session = match self.locks.contenders[number].state {
            State::Unlocks { number, session } if number == operation => session,
            State::Proclaims {
                number: of,
                session,
            } if of == operation => return self.proclaim_ends(number, session, response),
            _ => return Ok(()),
        };
        let state = match response {
            Some(Ok(_)) => State::Idle,
            // The key goes with the session.
            Some(Err(error)) if is_denial(&error.to_string()) => {
                self.tally.denied_sessions += 1;
                self.end_session(number, session);
                State::Idle
            }
            Some(Err(error)) => return Err(format!("locks: an unlock got {error}")),
            None => State::Holds(session),
        };
        self.locks.contenders[number].state = state;
        self.contender_pauses(number, 500);
        Ok(())
    }

    /// A call has come to its end, with a place that is the first, or without. An answer to a
    /// client that is gone has no effect.
    pub(super) fn call_ends(
        &mut self,
        number: usize,
        operation: u64,
        place: Option<&lock::Place>,
    ) -> Result<(), String> {
        let contender = &mut self.locks.contenders[number];
        let (lock, state) = (contender.lock, contender.state);
        let session = match state {
            State::Calls {
                number, session, ..
            } if number == operation => session,
            _ => return Ok(()),
        };
        contender.state = State::Idle;
        let created = place.map(lock::Place::created);
        contender.created = created.unwrap_or(0);
        // A session that its client has ended meanwhile has nothing to protect.
        let session = match session {
            Some(session) => (self.leases.session(number) == Some(session)).then_some(session),
            None => place.and_then(|place| self.leases.last(place.lease())),
        };
        if let Some(session) = session.filter(|_| created.is_some()) {
            self.note(session.1 << 8 ^ operation);
            self.locks.contenders[number].state = State::Holds(session);
            let now = self.clock.now_ms();
            let leases = &self.leases;
            self.locks
                .held
                .take(lock, session, |session| now < leases.promised(session))?;
        }
        if self.trace {
            let now = self.clock.now_ms();
            println!("{now:>8} call {operation} of contender {number} ends: {created:?}");
        }
        let most_ms = if self.clients.quiet { 10 } else { 2_000 };
        self.contender_pauses(number, most_ms);
        Ok(())
    }

    /// A client has waited long enough.
    pub(in crate::sim) fn contender_gives_up(&mut self, number: usize, operation: u64) {
        match self.locks.contenders[number].state {
            State::Calls { number: of, at, .. } if of == operation => {
                // Without faults it waits, unless the call is gone with its member.
                if self.clients.quiet && self.lives(at.0, at.1) {
                    let again = Event::Contender(number, Some(operation));
                    self.clock.after(AGAIN_MS, again);
                    return;
                }
                let notices = match self.dice.chance(0.5) {
                    true => 0,
                    false => self.dice.between(1, 5_000),
                };
                let gone = Event::LockCall(at.0, at.1, operation, CallEvent::Cancelled);
                self.clock.after(notices, gone);
            }
            State::Unlocks {
                number: of,
                session,
            } if of == operation => {
                self.leave(Waiter::Unlock(number, operation));
                self.end_session(number, session);
            }
            // It leads as long as it may rely on its lease, whatever has become of the value.
            State::Proclaims {
                number: of,
                session,
            } if of == operation => {
                self.leave(Waiter::Unlock(number, operation));
                self.locks.contenders[number].state = State::Holds(session);
                return self.contender_pauses(number, 500);
            }
            _ => return,
        }
        self.locks.contenders[number].state = State::Idle;
        self.contender_pauses(number, 500);
    }

    /// The client ends its session, or its lease is gone: it holds no lock any more.
    pub(in crate::sim) fn session_ends(&mut self, number: usize, session: LeaseKey) {
        self.locks.held.release(session);
        if let Some(contender) = self.locks.contenders.get_mut(number)
            && contender.state.is_of_holder(session)
        {
            contender.state = State::Idle;
            self.contender_pauses(number, 500);
        }
    }

    /// A session may rely on its lease for longer.
    pub(in crate::sim) fn session_renewed(&self, session: LeaseKey) -> Result<(), String> {
        let now = self.clock.now_ms();
        let relies = |session| now < self.leases.promised(session);
        self.locks.held.renewed(session, relies)
    }

    /// Whether a contender waits for a lock.
    fn waits_for_lock(&self, number: usize) -> bool {
        let contender = self.locks.contenders.get(number);
        contender.is_some_and(|contender| matches!(contender.state, State::Calls { .. }))
    }

    /// Whether it does so with its lease.
    pub(in crate::sim) fn waits_with_lease(&self, number: usize) -> bool {
        let contender = self.locks.contenders.get(number);
        contender.is_some_and(|of| {
            matches!(
                of.state,
                State::Calls {
                    session: Some(_),
                    ..
                }
            )
        })
    }

    /// Without faults, each session that waits is given its lock.
    pub(in crate::sim) fn locks_pass_on(&mut self) -> Result<(), String> {
        const PASS_MS: u64 = 60_000;
        let until = self.clock.now_ms() + PASS_MS;
        for at in (self.clock.now_ms()..until).step_by(500) {
            let mut numbers = 0..self.locks.len();
            if !numbers.any(|number| self.waits_for_lock(number)) {
                return Ok(());
            }
            self.run_until(at)?;
        }
        Err(format!(
            "liveness: a lock was not given in {PASS_MS} ms of calm: {:?}",
            self.locks.contenders
        ))
    }
}
