//! The playground's command line.

use std::path::PathBuf;

/// Bring a whole cluster up on this machine, through one discovery URL, to try things out. Ctrl-C
/// ends it.
#[derive(Debug, clap::Parser)]
#[command(name = "playground", bin_name = "keelson playground")]
pub(crate) struct Arguments {
    /// How many of the hosts become members; of 5, any 2 may die.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=15))]
    pub(crate) members: u16,
    /// How many hosts more there are: they become proxies. 15 hosts in all at most.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=14))]
    pub(crate) proxies: u16,
    /// Client port of the first host; the next host's is 10 higher. Each host's peer port is its
    /// client port + 1, and the discovery service's is this + 8.
    #[arg(long, default_value_t = 2379, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) base_port: u16,
    /// Keep the hosts' data here, and go on from it when it is there [default: a temporary
    /// directory, removed at the end].
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Start a host again when it has died.
    #[arg(long)]
    pub(crate) restart: bool,
}
