//! The durations of compactions and of their steps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use keelson_port::metrics::{Exposition, Histogram};

/// The buckets of etcd's metrics in milliseconds.
const MILLISECOND: Duration = Duration::from_millis(1);

/// What compactions took since the start of the member.
#[derive(Debug)]
pub(crate) struct CompactionDurations {
    /// The durations of steps: so long a compaction keeps entries waiting at a time.
    steps: Histogram,
    /// From the entry that compacts until its rows are released.
    whole: Histogram,
    /// When the last one ended, in seconds since 1970.
    last: AtomicU64,
}

impl Default for CompactionDurations {
    fn default() -> CompactionDurations {
        CompactionDurations {
            steps: Histogram::exponential(MILLISECOND, 13),
            whole: Histogram::exponential(100 * MILLISECOND, 14),
            last: AtomicU64::new(0),
        }
    }
}

/// Follows the compactions of one state machine.
#[derive(Debug, Default)]
pub(crate) struct CompactionClock {
    began: Option<Instant>,
}

impl CompactionClock {
    /// Notes whether rows are left to delete. A compaction that replaces another one continues it.
    pub(crate) fn note(&mut self, is_compacting: bool, durations: &CompactionDurations) {
        match (self.began, is_compacting) {
            (None, true) => self.began = Some(Instant::now()),
            (Some(began), false) => {
                self.began = None;
                durations.whole.observe(began.elapsed());
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let seconds = now.map_or(0, |now| now.as_secs());
                durations.last.store(seconds, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl CompactionDurations {
    /// Notes a step.
    pub(crate) fn step(&self, took: Duration) {
        self.steps.observe(took);
    }

    /// Writes the series.
    pub(super) fn write(&self, out: &mut Exposition) {
        out.gauge(
            "etcd_debugging_mvcc_db_compaction_last",
            "The unix time of the last db compaction. Resets to 0 on start.",
            self.last.load(Ordering::Relaxed),
        );
        for (name, help, histogram) in [
            (
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Bucketed histogram of db compaction pause duration.",
                &self.steps,
            ),
            (
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Bucketed histogram of db compaction total duration.",
                &self.whole,
            ),
        ] {
            out.begin(name, help, "histogram");
            out.buckets_in(MILLISECOND, name, &[], histogram);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compaction_counts_when_its_rows_are_released() {
        let (durations, mut clock) = (CompactionDurations::default(), CompactionClock::default());
        for is_compacting in [false, true, true, false, false] {
            clock.note(is_compacting, &durations);
        }
        durations.step(3 * MILLISECOND);
        assert_eq!(durations.whole.totals().0, 1);
        let mut out = Exposition::default();
        durations.write(&mut out);
        let text = out.into_text();
        let name = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds";
        for line in [
            format!("{name}_bucket{{le=\"2\"}} 0"),
            format!("{name}_bucket{{le=\"4\"}} 1"),
            format!("{name}_sum 3"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(!text.contains("db_compaction_last 0"), "{text}");
    }
}
