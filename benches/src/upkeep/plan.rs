//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::server::Servers;

/// What runs beside the puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A snapshot of all keys.
    Snapshot,
    /// The compaction of a revision of each key, until its rows are deleted.
    Compaction,
    /// A defragmentation, after the compaction.
    Defragmentation,
}

/// All of them, in the order of a run: each needs what the ones before left.
pub const WORKS: [Work; 3] = [Work::Snapshot, Work::Compaction, Work::Defragmentation];

/// The command line of `upkeep`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Members of the cluster; the first one does the work.
    #[arg(long, default_value_t = 1)]
    pub members: usize,
    /// Keys in the store, and revisions that are compacted.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 128)]
    pub value_bytes: usize,
    /// Clients that put, one request each in flight.
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// Rounds, each with fresh members; the servers go first in turn.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Seconds of puts without the work.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Seconds for which a member is left alone before each work.
    #[arg(long, default_value_t = 2)]
    pub settle: u64,
    /// Niceness of the thread that sends the requests and reads the snapshot, up to 19: a client on
    /// another host would take no time from the member and from the puts. Linux only.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub client_nice: i32,
    /// Where upkeep.md goes.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Plan {
    /// How long the puts alone are measured.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
