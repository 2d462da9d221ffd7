//! The cache of verified passwords.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The number of passwords in the cache.
const REMEMBERED: usize = 256;

/// A password is forgotten when it was not used for this time.
pub(super) const UNUSED_MAX: Duration = Duration::from_secs(5 * 60);

/// A password is forgotten when bcrypt has verified it so long ago, though it is used.
pub(super) const VERIFIED_MAX: Duration = Duration::from_secs(60 * 60);

/// A keyed hash of a password and its bcrypt hash: a changed password has another one.
pub(super) type Proof = [u8; 32];

/// Passwords that bcrypt has verified, the last used first.
#[derive(Debug, Default)]
pub(super) struct VerifiedPasswords(Mutex<VecDeque<Verified>>);

#[derive(Debug)]
struct Verified {
    proof: Proof,
    /// When bcrypt verified it.
    verified: Instant,
    used: Instant,
}

impl VerifiedPasswords {
    /// Adds a password that was just verified.
    pub(super) fn add(&self, proof: Proof) {
        let now = Instant::now();
        let mut all = self.0.lock();
        all.retain(|known| known.proof != proof);
        all.truncate(REMEMBERED - 1);
        all.push_front(Verified {
            proof,
            verified: now,
            used: now,
        });
    }

    /// Whether the password is known. If so, it was used now.
    pub(super) fn uses(&self, proof: &Proof) -> bool {
        let mut all = self.0.lock();
        all.retain(|known| {
            known.used.elapsed() < UNUSED_MAX && known.verified.elapsed() < VERIFIED_MAX
        });
        let Some(at) = all.iter().position(|known| known.proof == *proof) else {
            return false;
        };
        if let Some(known) = all.remove(at) {
            all.push_front(Verified {
                used: Instant::now(),
                ..known
            });
        }
        true
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_password_is_known_while_it_is_used_but_for_an_hour_at_most() {
        let known = VerifiedPasswords::default();
        let (used, unused) = ([1; 32], [2; 32]);
        known.add(used);
        known.add(unused);
        let step = UNUSED_MAX - Duration::from_secs(1);
        let mut passed = Duration::ZERO;
        while passed + step < VERIFIED_MAX {
            tokio::time::advance(step).await;
            passed += step;
            assert!(known.uses(&used), "after {passed:?}");
        }
        assert!(!known.uses(&unused));
        tokio::time::advance(VERIFIED_MAX - passed).await;
        assert!(!known.uses(&used), "bcrypt has to verify it again");
        assert_eq!(known.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_password_that_was_not_used_for_longest_makes_room() {
        let known = VerifiedPasswords::default();
        for number in 0..REMEMBERED {
            known.add([number as u8; 32]);
        }
        assert!(known.uses(&[0; 32]));
        known.add([
            255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0,
        ]);
        assert_eq!(known.len(), REMEMBERED);
        assert!(known.uses(&[0; 32]) && !known.uses(&[1; 32]));
    }
}
