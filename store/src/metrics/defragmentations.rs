//! The durations of defragmentations, and whether one is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keelson_port::metrics::{Exposition, Histogram};

/// The defragmentations since the start of the member. There is one at a time.
#[derive(Debug)]
pub(crate) struct Defragmentations {
    took: Histogram,
    is_active: AtomicBool,
}

impl Default for Defragmentations {
    /// The buckets are etcd's.
    fn default() -> Defragmentations {
        Defragmentations {
            took: Histogram::exponential(Duration::from_millis(100), 13),
            is_active: AtomicBool::new(false),
        }
    }
}

/// One that is under way, until it is dropped.
pub(crate) struct ActiveDefragmentation<'a> {
    all: &'a Defragmentations,
    began: Instant,
}

impl Defragmentations {
    /// Begins one.
    pub(crate) fn begin(&self) -> ActiveDefragmentation<'_> {
        self.is_active.store(true, Ordering::Relaxed);
        ActiveDefragmentation {
            all: self,
            began: Instant::now(),
        }
    }

    /// Writes the series.
    pub(super) fn write(&self, out: &mut Exposition) {
        out.histogram(
            "etcd_disk_backend_defrag_duration_seconds",
            "The latency distribution of backend defragmentation.",
            &self.took,
        );
        out.gauge(
            "etcd_disk_defrag_inflight",
            "Whether or not defrag is active on the member. 1 means active, 0 means not.",
            u64::from(self.is_active.load(Ordering::Relaxed)),
        );
    }
}

impl ActiveDefragmentation<'_> {
    /// Ends it with success. As in etcd the duration of one that fails does not count.
    pub(crate) fn succeed(self) -> Duration {
        let took = self.began.elapsed();
        self.all.took.observe(took);
        took
    }
}

impl Drop for ActiveDefragmentation<'_> {
    fn drop(&mut self) {
        self.all.is_active.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(all: &Defragmentations) -> String {
        let mut out = Exposition::default();
        all.write(&mut out);
        out.into_text()
    }

    #[test]
    fn one_is_in_flight_until_it_ends_and_counts_if_it_succeeds() {
        let all = Defragmentations::default();
        let count = "etcd_disk_backend_defrag_duration_seconds_count";
        for (succeeds, counted) in [(false, 0), (true, 1)] {
            let active = all.begin();
            assert!(text(&all).contains("\netcd_disk_defrag_inflight 1\n"));
            match succeeds {
                true => drop(active.succeed()),
                false => drop(active),
            }
            let text = text(&all);
            assert!(text.contains("\netcd_disk_defrag_inflight 0\n"), "{text}");
            assert!(text.contains(&format!("\n{count} {counted}\n")), "{text}");
        }
        let first = "etcd_disk_backend_defrag_duration_seconds_bucket{le=\"0.1\"} 1";
        assert!(text(&all).contains(first), "{}", text(&all));
    }
}
