//! The pauses between snapshots to a member that cannot receive them, such as one with a full disk.
//! Raft sends the next one with the next heartbeat, and each costs both members all of the state.

use std::collections::BTreeMap;

use crate::{MemberId, Millis};

/// The pause after the second failure, in milliseconds. It doubles with each further one.
const PAUSE_MS: u64 = 200;
/// The longest pause, in milliseconds: a member is sent a snapshot this soon after it has room.
const PAUSE_MAX_MS: u64 = 3_200;

/// Members whose last snapshots failed.
#[derive(Debug, Default)]
pub(super) struct FailedTransfers {
    /// Each with the number of failures, and the time of the next attempt.
    members: BTreeMap<MemberId, (u32, Millis)>,
}

impl FailedTransfers {
    /// A transfer has ended.
    pub(super) fn ended(&mut self, now: Millis, to: MemberId, ok: bool) {
        if ok {
            self.members.remove(&to);
            return;
        }
        let (failures, next) = self.members.entry(to).or_default();
        // The first failure may be the network's.
        let pause_ms = match *failures {
            0 => 0,
            more => (PAUSE_MS << (more - 1).min(8)).min(PAUSE_MAX_MS),
        };
        *failures = failures.saturating_add(1);
        *next = Millis(now.0 + pause_ms);
    }

    /// Whether the next snapshot is too early.
    pub(super) fn must_wait(&self, now: Millis, to: MemberId) -> bool {
        self.members.get(&to).is_some_and(|(_, next)| now < *next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_to_a_bound_and_end_with_a_success() {
        let (mut transfers, to) = (FailedTransfers::default(), MemberId(2));
        let mut pauses = Vec::new();
        let mut now = 1_000;
        for _ in 0..8 {
            transfers.ended(Millis(now), to, false);
            let failed = now;
            while transfers.must_wait(Millis(now), to) {
                now += 100;
            }
            pauses.push(now - failed);
        }
        assert_eq!(pauses, [0, 200, 400, 800, 1_600, 3_200, 3_200, 3_200]);
        transfers.ended(Millis(now), to, false);
        assert!(
            transfers.must_wait(Millis(now), to) && !transfers.must_wait(Millis(now), MemberId(3))
        );
        transfers.ended(Millis(now), to, true);
        assert!(!transfers.must_wait(Millis(now), to));
    }
}
