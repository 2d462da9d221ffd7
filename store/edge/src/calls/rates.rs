//! Counts of what was over a limit of rate.

use std::sync::atomic::{AtomicU64, Ordering};

use keelson_port::metrics::Exposition;

use crate::rates::By;

/// The counts, of connections and of users.
#[derive(Debug, Default)]
pub(crate) struct RateCounts {
    refused: [AtomicU64; 2],
    delayed: [AtomicU64; 2],
}

impl RateCounts {
    /// Counts a request that was refused, or a stream that was ended.
    pub(crate) fn refuse(&self, by: By) {
        self.refused[by as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts messages of a stream that wait.
    pub(crate) fn delay(&self, by: By) {
        self.delayed[by as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the series.
    pub(super) fn write(&self, out: &mut Exposition) {
        let name = "keelson_rate_limited_requests_total";
        let help = "Requests refused, and messages of streams delayed, by a limit of rate.";
        out.begin(name, help, "counter");
        for (outcome, counts) in [("refused", &self.refused), ("delayed", &self.delayed)] {
            for (by, of) in [(By::Connection, "connection"), (By::User, "user")] {
                let count = counts[by as usize].load(Ordering::Relaxed);
                out.series(name, &[("by", of), ("outcome", outcome)], count);
            }
        }
    }
}
