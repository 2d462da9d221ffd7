//! The sessions that were given a lock, and have not given it back.

use std::collections::BTreeMap;

use crate::sim::lease::LeaseKey;

/// One session with a lock.
#[derive(Clone, Copy, Debug)]
struct Holding {
    session: LeaseKey,
    /// The lock was given to another session while this one could not rely on its lease.
    is_passed: bool,
}

/// All locks, by number.
#[derive(Debug, Default)]
pub(super) struct Held {
    locks: BTreeMap<u64, Vec<Holding>>,
    pub(super) taken: u64,
}

impl Held {
    /// A session was given the lock. `relies` is whether a session may rely on its lease now.
    ///
    /// # Errors
    /// Another session holds it as well.
    pub(super) fn take(
        &mut self,
        lock: u64,
        session: LeaseKey,
        relies: impl Fn(LeaseKey) -> bool,
    ) -> Result<(), String> {
        self.taken += 1;
        let holdings = self.locks.entry(lock).or_default();
        let own = holdings.iter().position(|held| held.session == session);
        let own = own.map(|own| holdings.swap_remove(own));
        let other = holdings.iter().find(|held| relies(held.session));
        let is_passed = match (other, relies(session)) {
            (Some(other), true) => return Err(twice(lock, session, other.session)),
            (Some(_), false) => true,
            (None, true) => {
                holdings.iter_mut().for_each(|held| held.is_passed = true);
                false
            }
            (None, false) => false,
        };
        let was_passed = own.is_some_and(|own| own.is_passed);
        holdings.push(Holding {
            session,
            is_passed: is_passed || was_passed,
        });
        Ok(())
    }

    /// A session gives the lock back, or its client ends.
    pub(super) fn release(&mut self, session: LeaseKey) {
        for holdings in self.locks.values_mut() {
            holdings.retain(|held| held.session != session);
        }
    }

    /// A session may rely on its lease for longer. Its lease was there all the time.
    ///
    /// # Errors
    /// Another session has had the lock meanwhile.
    pub(super) fn renewed(
        &self,
        session: LeaseKey,
        relies: impl Fn(LeaseKey) -> bool,
    ) -> Result<(), String> {
        if !relies(session) {
            return Ok(());
        }
        for (lock, holdings) in &self.locks {
            let Some(own) = holdings.iter().find(|held| held.session == session) else {
                continue;
            };
            let mut others = holdings.iter().filter(|held| held.session != session);
            if let Some(other) = others.find(|held| relies(held.session)) {
                return Err(twice(*lock, session, other.session));
            }
            if own.is_passed {
                return Err(format!(
                    "locks: {session:?} has lock {lock}, and another session was given it"
                ));
            }
        }
        Ok(())
    }
}

fn twice(lock: u64, one: LeaseKey, other: LeaseKey) -> String {
    format!("locks: {one:?} and {other:?} hold lock {lock} at one time")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LeaseKey = (1, 10);
    const TWO: LeaseKey = (2, 20);

    #[test]
    fn two_sessions_that_rely_on_their_leases_may_not_hold_one_lock() {
        let mut held = Held::default();
        held.take(0, ONE, |_| true).unwrap();
        held.take(1, TWO, |_| true).unwrap();
        held.take(0, ONE, |_| true).unwrap();
        held.take(0, TWO, |_| true).unwrap_err();
        held.release(ONE);
        held.take(0, TWO, |_| true).unwrap();
    }

    #[test]
    fn a_lock_passes_on_from_a_session_whose_lease_may_be_gone() {
        let mut held = Held::default();
        held.take(0, ONE, |_| true).unwrap();
        held.take(0, TWO, |session| session == TWO).unwrap();
        held.renewed(ONE, |session| session == TWO).unwrap();
        // The lease was there when the lock passed on.
        held.release(TWO);
        held.renewed(ONE, |session| session == ONE).unwrap_err();
    }

    #[test]
    fn an_answer_that_is_too_late_to_rely_on_gives_no_lock() {
        let mut held = Held::default();
        held.take(0, TWO, |_| true).unwrap();
        held.take(0, ONE, |session| session == TWO).unwrap();
        held.renewed(ONE, |_| true).unwrap_err();
    }
}
