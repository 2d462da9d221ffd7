//! What was measured of one server with one work.

use std::time::Duration;

use crate::histogram::Histogram;

/// One work of one server.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The latencies of puts without the work.
    pub alone: Histogram,
    /// The latencies of puts beside it.
    pub beside: Histogram,
    /// Anonymous memory of the member before the work, in bytes.
    pub idle: u64,
    /// Its peak during the work, in bytes.
    pub peak: u64,
    /// Keys that were read, or leases that expired.
    pub done: usize,
    /// The duration of the work.
    pub took: Duration,
}

impl Outcome {
    /// The figures, in the order of the table.
    pub fn figures(&self) -> [f64; 8] {
        let millis =
            |histogram: &Histogram, quantile| histogram.quantile(quantile).as_secs_f64() * 1e3;
        let alone = millis(&self.alone, 0.99);
        let beside = millis(&self.beside, 0.99);
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        [
            self.done as f64 / self.took.as_secs_f64().max(1e-9),
            millis(&self.beside, 0.5),
            alone,
            beside,
            beside / alone.max(1e-9),
            millis(&self.beside, 1.0),
            megabytes(self.idle),
            megabytes(self.peak.saturating_sub(self.idle)),
        ]
    }
}
