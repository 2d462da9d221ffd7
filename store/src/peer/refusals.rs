//! Throttles the log of refused calls at the peer port.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_core::MemberId;
use keelson_port::LogThrottle;
use parking_lot::Mutex;
use tonic::{Code, Status};

/// The interval between two warnings of the same kind.
const WARN_EVERY: Duration = Duration::from_secs(30);

/// One throttle for each gRPC code, so that a flood of one kind does not hide the others.
#[derive(Default)]
pub(super) struct Refusals(Mutex<BTreeMap<i32, Kind>>);

struct Kind {
    throttle: LogThrottle,
    /// The refusals since the last warning.
    unlogged: u64,
}

impl Refusals {
    /// Counts a refused call. Returns whether it was logged.
    pub(super) fn note(&self, from: Option<MemberId>, status: &Status) -> bool {
        // A check of the same member is in progress, which is not a fault.
        if status.code() == Code::Aborted {
            return false;
        }
        let mut kinds = self.0.lock();
        let kind = kinds.entry(status.code() as i32).or_insert_with(|| Kind {
            throttle: LogThrottle::every(WARN_EVERY),
            unlogged: 0,
        });
        if kind.throttle.failing().is_none() {
            kind.unlogged += 1;
            return false;
        }
        let before = std::mem::take(&mut kind.unlogged);
        drop(kinds);
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let why = status.message();
        tracing::warn!(from, why, before, "refused a call on the peer port");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_once_and_hides_no_other_kind() {
        let refusals = Refusals::default();
        let from = Some(MemberId(3));
        let flood = Status::failed_precondition("cluster ID mismatch");
        assert!(refusals.note(from, &flood));
        for _ in 0..100 {
            assert!(!refusals.note(from, &flood));
        }
        assert!(refusals.note(None, &Status::invalid_argument("no introduction")));
        assert!(!refusals.note(from, &Status::aborted("being verified")));
    }
}
