//! What became of the snapshots that a program saves at an interval.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelson_port::metrics::{Exposition, Histogram};

use super::Count;

/// A time that could not be read.
const UNKNOWN: u64 = u64::MAX;

/// The scheduled snapshots since the start of the member. Nothing is written before they are
/// scheduled.
#[derive(Debug)]
pub struct BackupMetrics {
    /// In seconds; 0: none are scheduled.
    interval: AtomicU64,
    /// When the newest was saved, in seconds since 1970; 0: there is none; [`UNKNOWN`].
    newest: AtomicU64,
    bytes: AtomicU64,
    took: Histogram,
    failures: Count,
    has_failed: AtomicBool,
}

impl Default for BackupMetrics {
    fn default() -> BackupMetrics {
        BackupMetrics {
            interval: AtomicU64::new(0),
            newest: AtomicU64::new(UNKNOWN),
            bytes: AtomicU64::new(0),
            took: Histogram::exponential(Duration::from_millis(100), 15),
            failures: Count::default(),
            has_failed: AtomicBool::new(false),
        }
    }
}

impl BackupMetrics {
    /// States the interval.
    pub fn schedule(&self, interval: Duration) {
        self.interval.store(interval.as_secs(), Ordering::Relaxed);
    }

    /// States the time of the newest snapshot of earlier. Until then it is unknown, also whether
    /// there is one.
    pub fn found(&self, newest: Option<SystemTime>) {
        let newest = newest.map_or(0, unix_seconds);
        self.newest.store(newest, Ordering::Relaxed);
    }

    /// A snapshot was saved.
    pub fn saved(&self, bytes: u64, took: Duration) {
        let now = unix_seconds(SystemTime::now());
        self.newest.store(now, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.took.observe(took);
        self.has_failed.store(false, Ordering::Relaxed);
    }

    /// One was not saved, or older ones could not be removed.
    pub fn failed(&self) {
        self.failures.add(1);
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Writes the series.
    pub(super) fn write(&self, out: &mut Exposition) {
        let interval = self.interval.load(Ordering::Relaxed);
        if interval == 0 {
            return;
        }
        out.gauge(
            "keelson_backup_interval_seconds",
            "The time between two scheduled snapshots.",
            interval,
        );
        out.gauge(
            "keelson_backup_successful",
            "Whether the last scheduled snapshot was saved, and older ones removed.",
            u64::from(!self.has_failed.load(Ordering::Relaxed)),
        );
        let newest = self.newest.load(Ordering::Relaxed);
        if newest != UNKNOWN {
            out.gauge(
                "keelson_backup_last_success_timestamp_seconds",
                "When the newest scheduled snapshot was saved, since 1970. 0: there is none.",
                newest,
            );
        }
        out.gauge(
            "keelson_backup_size_bytes",
            "The size of the newest scheduled snapshot that this process saved.",
            self.bytes.load(Ordering::Relaxed),
        );
        out.counter(
            "keelson_backup_failures_total",
            "How often a scheduled snapshot was not saved, or older ones not removed.",
            self.failures.get(),
        );
        out.histogram(
            "keelson_backup_duration_seconds",
            "The latency distribution of scheduled snapshots.",
            &self.took,
        );
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &BackupMetrics) -> String {
        let mut out = Exposition::default();
        metrics.write(&mut out);
        out.into_text()
    }

    #[test]
    fn scheduled_snapshots_have_series() {
        let metrics = BackupMetrics::default();
        assert_eq!(text(&metrics), "");
        let newest = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        metrics.schedule(Duration::from_secs(3600));
        // It is not 0, which states that there is none.
        assert!(!text(&metrics).contains("last_success"));
        metrics.found(Some(newest));
        let has = |line: &str| {
            let text = text(&metrics);
            let line = format!("keelson_backup_{line}");
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        };
        has("interval_seconds 3600");
        has("successful 1");
        has("last_success_timestamp_seconds 1700000000");
        metrics.failed();
        has("successful 0");
        has("failures_total 1");
        has("last_success_timestamp_seconds 1700000000");
        metrics.saved(20_480, Duration::from_secs(1));
        has("successful 1");
        has("failures_total 1");
        has("size_bytes 20480");
        has("duration_seconds_count 1");
        let last = "keelson_backup_last_success_timestamp_seconds 1700000000\n";
        assert!(!text(&metrics).contains(last));
        metrics.found(None);
        has("last_success_timestamp_seconds 0");
    }
}
