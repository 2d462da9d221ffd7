//! The playground's command line.

use std::path::PathBuf;

/// Start a cluster on this machine to try things out. Ctrl-C ends it.
#[derive(Debug, clap::Parser)]
#[command(name = "playground", bin_name = "keelson playground")]
pub(crate) struct Arguments {
    /// How many members; of 5, any 2 may die.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=15))]
    pub(crate) members: u16,
    /// Client port of the first member; the next member's is 10 higher, and each member's peer
    /// port is its client port + 1.
    #[arg(long, default_value_t = 2379, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) base_port: u16,
    /// Keep the members' data here [default: a temporary directory, removed at the end].
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Start a member again when it has died.
    #[arg(long)]
    pub(crate) restart: bool,
}
