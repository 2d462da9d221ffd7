//! A place that is given up, as in the product's `v3/session/undo.rs`.

use keelson_core::lock;
use keelson_proto::etcdserverpb::LeaseRevokeRequest;
use keelson_proto::internal::command::Op;

use super::CallEvent;
use super::calls::State;
use crate::sim::event::{Event, Waiter};
use crate::sim::mutant::Mutant;
use crate::sim::world::World;

/// The product's attempts to give a place up, and the pause between two, in milliseconds.
const UNDO_ATTEMPTS: u64 = 5;
const UNDO_PAUSE_MS: u64 = 1_000;

impl World {
    pub(super) fn place_dropped(&mut self, number: u64) {
        if let Some(call) = self.locks.calls.get(&number) {
            let reader = Waiter::LockCall(number, call.step);
            self.leave(reader);
            self.session_is_left(number);
        }
        let _ = self.next_step(number, State::GivesUp(0));
        self.gives_up(number);
    }

    pub(super) fn gives_up(&mut self, number: u64) {
        let Some(call) = self.locks.calls.get(&number) else {
            return;
        };
        let State::GivesUp(attempts) = call.state else {
            return;
        };
        let place = &call.place;
        let op = match (&call.own, self.mutant) {
            (Some(own), _) => Op::LeaseRevoke(LeaseRevokeRequest { id: own.id }),
            // As etcd, which does not compare at all.
            (None, Some(Mutant::LockGivenUpForAll)) => {
                let own = lock::created_at(place.key().clone(), place.created());
                let delete = vec![lock::delete(place.key().clone())];
                Op::Txn(lock::when(own, delete, Vec::new()))
            }
            (None, _) => Op::Txn(place.give_up()),
        };
        let _ = self.next_step(number, State::GivesUp(attempts + 1));
        self.call_proposes(number, op);
    }

    pub(super) fn gives_up_again(&mut self, number: u64) {
        let Some(call) = self.locks.calls.get(&number) else {
            return;
        };
        match call.state {
            State::GivesUp(attempts) if attempts < UNDO_ATTEMPTS => {
                let (id, boot) = call.at;
                let again = Event::LockCall(id, boot, number, CallEvent::GivesUp);
                self.clock.after(UNDO_PAUSE_MS, again);
                let _ = self.next_step(number, State::GivesUp(attempts));
            }
            _ => drop(self.locks.calls.remove(&number)),
        }
    }
}
