//! The watches of calls that wait.

use std::sync::atomic::Ordering;

use keelson_core::MemberId;
use keelson_core::watch::WatchContent;

use super::CallEvent;
use super::calls::{Call, State};
use crate::sim::event::Event;
use crate::sim::mutant::Mutant;
use crate::sim::world::World;

impl World {
    /// The member has delivered revisions: calls with a message take their turn soon.
    pub(in crate::sim) fn wake_calls(&mut self, id: MemberId) {
        let is_woken = |call: &Call| match &call.state {
            State::Waits(_, woken) => call.at.0 == id && woken.load(Ordering::Relaxed),
            _ => false,
        };
        let woken = self.locks.calls.iter().filter(|(_, call)| is_woken(call));
        let woken: Vec<_> = woken.map(|(number, call)| (*number, call.at)).collect();
        for (number, (id, boot)) in woken {
            let delay = self.dice.between(0, 5);
            let event = Event::LockCall(id, boot, number, CallEvent::Woken);
            self.clock.after(delay, event);
        }
    }

    /// Reads the messages of a call's watches.
    pub(super) fn call_looks(&mut self, number: u64) -> Result<(), String> {
        let Some(call) = self.locks.calls.get_mut(&number) else {
            return Ok(());
        };
        let State::Waits(stream, woken) = &mut call.state else {
            return Ok(());
        };
        loop {
            // Before the read: the stream may wake its call meanwhile.
            woken.store(false, Ordering::Relaxed);
            let message = stream.next().map_err(|error| error.to_string())?;
            match message.map(|message| message.content) {
                None if woken.load(Ordering::Relaxed) => {}
                None => return Ok(()),
                Some(WatchContent::Events { .. } | WatchContent::Compacted(_)) => break,
                Some(WatchContent::Refused(why)) => return Err(format!("locks: {why}")),
                Some(WatchContent::Denied(_)) if self.swarm.users != 0 => {
                    return self.place_lost(number);
                }
                Some(WatchContent::Denied(error)) => return Err(format!("locks: {error}")),
                Some(_) => {}
            }
        }
        match self.mutant {
            Some(Mutant::LockGivenTwice) => self.place_kept(number),
            _ => {
                self.call_reads(number);
                Ok(())
            }
        }
    }
}
