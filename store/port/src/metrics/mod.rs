//! Metrics of a process: histograms that cost an atomic addition, and the text of `/metrics`.
//!
//! The text is written here and not by a registry. etcd has gauges whose names end in `_total` and
//! counters whose names do not, and its series are read from the state at each scrape.

mod exposition;
mod histogram;
mod process;

pub use exposition::{Exposition, Labels, METRICS_CONTENT_TYPE};
pub use histogram::Histogram;
pub use process::write_process;
