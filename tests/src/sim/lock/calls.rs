//! A member's Lock service: the core's `lock` on the simulated member, step by step as in the
//! product's `v3/session.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_core::MemberId;
use keelson_core::lock::{Place, Turn};
use keelson_core::node::Input;
use keelson_core::state::auth::{Access, Caller};
use keelson_core::state::{self, Response};
use keelson_core::watch::WatchStream;
use keelson_proto::etcdserverpb::WatchCreateRequest;
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use prost::Message;

use super::CallEvent;
use super::contenders::name_of;
use super::own::OwnSession;
use crate::sim::auth::is_denial;
use crate::sim::event::{Event, Waiter};
use crate::sim::mutant::Mutant;
use crate::sim::reads::ReadOrigin;
use crate::sim::world::World;

/// A call at a member's incarnation.
pub(super) struct Call {
    contender: usize,
    caller: Caller,
    pub(super) at: (MemberId, u64),
    pub(super) place: Place,
    /// The session that the call has created.
    pub(super) own: Option<OwnSession>,
    /// The number of its step: an answer to an earlier one has no effect.
    pub(super) step: u64,
    pub(super) state: State,
    /// The client is gone.
    is_cancelled: bool,
}

impl Call {
    /// Whether it waits for its turn.
    pub(super) fn waits(&self) -> bool {
        matches!(self.state, State::Reads | State::Waits(..))
    }
}

pub(super) enum State {
    /// It creates a session.
    Grants,
    Takes,
    Reads,
    Waits(Box<WatchStream>, Arc<AtomicBool>),
    /// With the number of attempts so far.
    GivesUp(u64),
}

impl World {
    /// Something happens to a call at a member that lives.
    pub(in crate::sim) fn call_event(
        &mut self,
        at: (MemberId, u64),
        number: u64,
        event: CallEvent,
    ) -> Result<(), String> {
        if let CallEvent::Arrives {
            contender,
            lock,
            lease,
        } = event
        {
            return self.call_arrives(at, number, contender, (lock, lease));
        }
        let Some(call) = self.locks.calls.get_mut(&number) else {
            return Ok(());
        };
        match (event, &call.state) {
            // The transaction has an outcome first.
            (CallEvent::Cancelled, State::Grants | State::Takes) => {
                call.is_cancelled = true;
                Ok(())
            }
            (CallEvent::Cancelled, State::Reads | State::Waits(..)) => {
                self.place_dropped(number);
                Ok(())
            }
            (CallEvent::Woken, State::Waits(..)) => self.call_looks(number),
            (CallEvent::Renews, State::Reads | State::Waits(..)) => {
                self.call_renews(number);
                Ok(())
            }
            (CallEvent::Overdue(step), _) if step == call.step => self.call_overdue(number),
            (CallEvent::GivesUp, State::GivesUp(_)) => {
                self.gives_up(number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn call_arrives(
        &mut self,
        at: (MemberId, u64),
        number: u64,
        contender: usize,
        (lock, lease): (u64, i64),
    ) -> Result<(), String> {
        if self.life(at.0).is_none_or(|life| life.machine().is_none()) {
            return self.call_ends(contender, number, None);
        }
        // Calls at members that have died are gone.
        let calls = std::mem::take(&mut self.locks.calls);
        let live = calls
            .into_iter()
            .filter(|(_, call)| self.lives(call.at.0, call.at.1));
        self.locks.calls = live.collect();
        let own = (lease == 0).then(|| self.new_session());
        let lease = own.as_ref().map_or(lease, |own| own.id);
        let call = Call {
            contender,
            caller: self.holder_at(at.0, contender),
            at,
            place: Place::new(name_of(lock), lease),
            own,
            step: 0,
            state: State::Takes,
            is_cancelled: false,
        };
        self.locks.calls.insert(number, call);
        match self.grant_of(number) {
            Some(grant) => {
                let _ = self.next_step(number, State::Grants);
                self.call_proposes(number, grant);
            }
            None => self.call_takes(number),
        }
        Ok(())
    }

    fn call_takes(&mut self, number: u64) {
        let value = self.next_value();
        if let Some(call) = self.locks.calls.get(&number) {
            let take = Op::Txn(call.place.take(value));
            let _ = self.next_step(number, State::Takes);
            self.call_proposes(number, take);
        }
    }

    /// Begins a step of a call, and returns the member and the step's number.
    pub(super) fn next_step(&mut self, number: u64, state: State) -> Option<(MemberId, u64)> {
        let call = self.locks.calls.get_mut(&number)?;
        (call.state, call.step) = (state, call.step + 1);
        Some((call.at.0, call.step))
    }

    pub(super) fn call_proposes(&mut self, number: u64, op: Op) {
        let Some(call) = self.locks.calls.get(&number) else {
            return;
        };
        let (at, step) = (call.at, call.step);
        // What is undone is the call's own.
        let caller = match call.state {
            State::GivesUp(_) => &Caller::Member,
            _ => &call.caller,
        };
        let op = self.signed(at.0, caller, op);
        let command = Command { op: Some(op) }.encode_to_vec().into();
        if let Some(id) = self.name_proposal(at.0) {
            self.waiting.insert(id, Waiter::LockCall(number, step));
            self.input(at.0, Input::Propose { id, command });
        }
        self.plan_overdue(number);
    }

    fn plan_overdue(&mut self, number: u64) {
        if let Some(call) = self.locks.calls.get(&number) {
            let overdue = CallEvent::Overdue(call.step);
            let event = Event::LockCall(call.at.0, call.at.1, number, overdue);
            self.clock.after(self.swarm.patience_ms, event);
        }
    }

    /// A transaction of a call is applied; `None` if it is certainly not in the log.
    pub(in crate::sim) fn call_answered(
        &mut self,
        number: u64,
        step: u64,
        response: Option<Result<Response, state::Error>>,
    ) -> Result<(), String> {
        let call = self.locks.calls.get_mut(&number);
        let Some(call) = call.filter(|call| call.step == step) else {
            return Ok(());
        };
        match (&call.state, response) {
            (State::Grants, Some(Ok(Response::LeaseGrant(_)))) => {
                self.session_granted(number)?;
                self.call_takes(number);
                Ok(())
            }
            (State::Takes, Some(Ok(Response::Txn(answer)))) => {
                let (_, is_first) = call.place.taken(answer);
                match (call.is_cancelled, is_first) {
                    (true, _) => self.place_dropped(number),
                    (false, true) => return self.place_kept(number),
                    (false, false) => {
                        self.plan_renewal(number);
                        self.call_reads(number);
                    }
                }
                Ok(())
            }
            (State::Grants, None) => self.call_fails(number),
            (State::Takes, None | Some(Err(state::Error::LeaseNotFound))) => {
                match call.own.is_some() {
                    true => self.place_lost(number),
                    false => self.call_fails(number),
                }
            }
            (State::GivesUp(_), Some(Ok(_) | Err(state::Error::LeaseNotFound))) => {
                self.locks.calls.remove(&number);
                Ok(())
            }
            (State::GivesUp(_), None) => {
                self.gives_up_again(number);
                Ok(())
            }
            (state, Some(Err(error))) if is_denial(&error.to_string()) => {
                self.tally.denied_sessions += 1;
                match state {
                    State::Takes if call.own.is_some() => self.place_lost(number),
                    State::GivesUp(_) => {
                        self.locks.calls.remove(&number);
                        Ok(())
                    }
                    _ => self.call_fails(number),
                }
            }
            (_, response) => Err(format!("locks: a call got {response:?}")),
        }
    }

    /// The call has a place, which is the first.
    pub(super) fn place_kept(&mut self, number: u64) -> Result<(), String> {
        self.session_is_left(number);
        let Some(call) = self.locks.calls.get(&number) else {
            return Ok(());
        };
        let (contender, place) = (call.contender, call.place.clone());
        match self.mutant == Some(Mutant::OwnSessionStays) && call.own.is_some() {
            true => {
                let _ = self.next_step(number, State::Reads);
                self.plan_renewal(number);
            }
            false => drop(self.locks.calls.remove(&number)),
        }
        self.call_ends(contender, number, Some(&place))
    }

    /// The call ends without a place.
    fn call_fails(&mut self, number: u64) -> Result<(), String> {
        match self.locks.calls.remove(&number) {
            Some(call) => self.call_ends(call.contender, number, None),
            None => Ok(()),
        }
    }

    /// The call ends, and gives its place up in the background.
    pub(super) fn place_lost(&mut self, number: u64) -> Result<(), String> {
        let contender = self.locks.calls.get(&number).map(|call| call.contender);
        self.place_dropped(number);
        match contender {
            Some(contender) => self.call_ends(contender, number, None),
            None => Ok(()),
        }
    }

    fn call_overdue(&mut self, number: u64) -> Result<(), String> {
        let Some(call) = self.locks.calls.get_mut(&number) else {
            return Ok(());
        };
        match call.state {
            // A late lease is left to its end.
            State::Grants => self.call_fails(number),
            // The session is given up at once: a late key has no lease.
            State::Takes if call.own.is_some() => self.place_lost(number),
            State::Takes => {
                // A late answer gives the place up.
                call.is_cancelled = true;
                let contender = call.contender;
                self.call_ends(contender, number, None)
            }
            State::Reads => self.place_lost(number),
            State::GivesUp(_) => {
                let waiter = Waiter::LockCall(number, call.step);
                self.leave(waiter);
                self.gives_up_again(number);
                Ok(())
            }
            State::Waits(..) => Ok(()),
        }
    }

    pub(super) fn call_reads(&mut self, number: u64) {
        if let Some((id, step)) = self.next_step(number, State::Reads) {
            self.plan_overdue(number);
            self.ask_to_read(id, ReadOrigin::LockCall(number, step));
        }
    }

    /// The index of a call's read has been applied.
    pub(in crate::sim) fn call_may_read(&mut self, number: u64, step: u64) -> Result<(), String> {
        let call = self.locks.calls.get(&number);
        let Some(call) = call.filter(|call| call.step == step) else {
            return Ok(());
        };
        let (id, request) = (call.at.0, call.place.read());
        let caller = call.caller.clone();
        let machine = self.life(id).and_then(|life| life.machine());
        let view = machine.ok_or("locks: a read without a state")?.view();
        let permitted = view.authorize(&caller, Access::Range(&request));
        let answer = view.range(&request);
        let answer = answer.map_err(|error| format!("locks: {error}"))?;
        self.check_permitted(id, &caller, &request, permitted.is_ok())?;
        if permitted.is_err() {
            return self.place_lost(number);
        }
        let turn = self
            .locks
            .calls
            .get(&number)
            .map(|call| call.place.turn(answer));
        match turn {
            Some(Turn::First(_)) => self.place_kept(number),
            Some(Turn::Gone) => {
                self.check_own_session(number)?;
                self.place_lost(number)
            }
            Some(Turn::Behind(watches)) => self.call_waits(number, *watches),
            None => Ok(()),
        }
    }

    fn call_waits(&mut self, number: u64, watches: [WatchCreateRequest; 2]) -> Result<(), String> {
        let Some(call) = self.locks.calls.get(&number) else {
            return Ok(());
        };
        let (id, caller) = (call.at.0, call.caller.clone());
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let woken = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&woken);
        let wake = move || flag.store(true, Ordering::Relaxed);
        let mut stream = life.watches.hub.stream(Arc::new(caller), wake);
        for watch in watches {
            stream.create(watch);
        }
        let _ = self.next_step(number, State::Waits(Box::new(stream), woken));
        self.call_looks(number)
    }
}
