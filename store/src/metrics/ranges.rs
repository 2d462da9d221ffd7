//! How long ranges take at this member, once they may begin.

use std::future::Future;
use std::time::{Duration, Instant};

use keelson_port::metrics::{Exposition, Histogram};

/// The durations of ranges, without the wait for the leader's commit index.
#[derive(Debug)]
pub(crate) struct RangeDurations {
    succeeded: Histogram,
    failed: Histogram,
}

impl Default for RangeDurations {
    fn default() -> RangeDurations {
        let etcds = || Histogram::exponential(Duration::from_micros(100), 20);
        RangeDurations {
            succeeded: etcds(),
            failed: etcds(),
        }
    }
}

impl RangeDurations {
    /// Measures a range.
    pub(crate) async fn of<T, E>(&self, range: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = Instant::now();
        let outcome = range.await;
        let durations = match &outcome {
            Ok(_) => &self.succeeded,
            Err(_) => &self.failed,
        };
        durations.observe(began.elapsed());
        outcome
    }

    /// Writes the series; like etcd, none for what has not happened.
    pub(super) fn write(&self, out: &mut Exposition) {
        let name = "etcd_server_range_duration_seconds";
        let help = "The latency distributions of txn->Range.";
        out.begin(name, help, "histogram");
        for (success, durations) in [("true", &self.succeeded), ("false", &self.failed)] {
            if durations.totals().0 != 0 {
                out.buckets(name, &[("success", success)], durations);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ranges_that_fail_have_a_series_of_their_own() {
        let durations = RangeDurations::default();
        for outcome in [Ok(1), Ok(2), Err("compacted")] {
            assert_eq!(durations.of(async { outcome }).await, outcome);
        }
        let mut out = Exposition::default();
        durations.write(&mut out);
        let text = out.into_text();
        for (success, count) in [("true", 2), ("false", 1)] {
            let name = "etcd_server_range_duration_seconds";
            for line in [
                format!("{name}_count{{success=\"{success}\"}} {count}"),
                format!("{name}_bucket{{success=\"{success}\",le=\"52.4288\"}} {count}"),
            ] {
                assert!(text.lines().any(|other| other == line), "{line}: {text}");
            }
        }
    }
}
