//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::server::Servers;

/// Which keys are watched, and put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keys {
    /// There are no watchers.
    None,
    /// All watchers watch one key, and all puts write it.
    Shared,
    /// Each watcher watches a key of its own, and puts write them in turn.
    Distinct,
}

/// The command line of `events`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Members of the cluster. Watchers and puts are spread over them.
    #[arg(long, default_value_t = 1)]
    pub members: usize,
    /// Watchers.
    #[arg(long, default_value_t = 10_000)]
    pub watchers: usize,
    /// Streams that hold them, a `Watch` call each.
    #[arg(long, default_value_t = 100)]
    pub streams: usize,
    /// Connections that carry the streams.
    #[arg(long, default_value_t = 10)]
    pub connections: usize,
    /// Cells to measure.
    #[arg(long, value_delimiter = ',', default_value = "none,shared,distinct")]
    pub keys: Vec<Keys>,
    /// Puts a second, in an open loop.
    #[arg(long, default_value_t = 100)]
    pub rate: u64,
    /// Bytes of a value, at least 8.
    #[arg(long, default_value_t = 64)]
    pub value_bytes: usize,
    /// Seconds of load in a cell.
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    /// How often everything is measured, each time on fresh servers.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Where events.md goes.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Plan {
    /// The duration of the load in a cell.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
