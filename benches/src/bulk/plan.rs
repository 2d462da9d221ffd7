//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::server::Servers;

/// What runs beside the puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// `Range` of all keys in pages, over and over.
    Pages,
    /// `RangeStream` of all keys, over and over; etcd 3.4 and 3.5 do not have it.
    Stream,
    /// The expiry of all leases at once: the member is started again after it has granted them.
    Expiry,
}

/// The command line of `bulk`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// What to run, in this order.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Work::Pages, Work::Stream, Work::Expiry])]
    pub works: Vec<Work>,
    /// Keys in the store.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 64)]
    pub value_bytes: usize,
    /// Keys of a page.
    #[arg(long, default_value_t = 10_000)]
    pub page: usize,
    /// Leases, each with a key.
    #[arg(long, default_value_t = 100_000)]
    pub leases: usize,
    /// Their time to live, in seconds.
    #[arg(long, default_value_t = 60)]
    pub ttl: i64,
    /// Puts a second of the other client, in an open loop.
    #[arg(long, default_value_t = 200)]
    pub rate: u64,
    /// Seconds of puts, without the work and beside the reads.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Niceness of the reading client's thread, up to 19: a client on another host would take no
    /// time from the member and from the puts. Linux only.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub client_nice: i32,
    /// Where bulk.md goes.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Plan {
    /// How long puts are measured.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
