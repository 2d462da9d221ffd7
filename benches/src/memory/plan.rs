//! What to measure: the command line.

use std::path::PathBuf;

use clap::Args;

use crate::server::Servers;

/// The command line of `memory`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Connections, each with an idle v3 watch of a key of its own.
    #[arg(long, default_value_t = 1000)]
    pub watches: usize,
    /// Keys in the store.
    #[arg(long, default_value_t = 100_000)]
    pub keys: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 64)]
    pub value_bytes: usize,
    /// Seconds that memory is left alone before it is read.
    #[arg(long, default_value_t = 3)]
    pub settle: u64,
    /// Where memory.md goes.
    #[arg(long)]
    pub out: Option<PathBuf>,
}
