//! What was measured of one server in one cell.

use std::time::Duration;

use crate::histogram::Histogram;

/// One cell of one server; several rounds add up.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the time when a put was due to its answer.
    pub puts: Histogram,
    /// From the time when a put was sent to its event at a watcher; of a part of the events.
    pub deliveries: Histogram,
    /// Events at watchers.
    pub delivered: u64,
    /// CPU of all members under load.
    pub server_cpu: Duration,
    /// Seconds of load.
    pub seconds: f64,
    /// Resident memory of the largest member after the load, in bytes.
    pub resident: u64,
}

impl Outcome {
    /// Adds another round.
    pub fn merge(&mut self, other: &Outcome) {
        self.puts.merge(&other.puts);
        self.deliveries.merge(&other.deliveries);
        self.delivered += other.delivered;
        self.server_cpu += other.server_cpu;
        self.seconds += other.seconds;
        self.resident = self.resident.max(other.resident);
    }

    /// The figures, in the order of the table.
    pub fn figures(&self) -> [f64; 9] {
        let millis =
            |histogram: &Histogram, quantile| histogram.quantile(quantile).as_secs_f64() * 1e3;
        let cpu_micros = self.server_cpu.as_secs_f64() * 1e6;
        [
            self.puts.total() as f64 / self.seconds,
            millis(&self.puts, 0.5),
            millis(&self.puts, 0.99),
            self.delivered as f64 / self.seconds,
            millis(&self.deliveries, 0.5),
            millis(&self.deliveries, 0.99),
            cpu_micros / self.puts.total().max(1) as f64,
            cpu_micros / self.delivered.max(1) as f64,
            self.resident as f64 / 1e6,
        ]
    }
}
