//! The playground's command line.

use std::path::PathBuf;

/// Start a whole cluster on this machine, through one discovery URL, to try things out. Ctrl-C
/// stops it.
#[derive(Debug, clap::Parser)]
#[command(name = "playground", bin_name = "keelson playground")]
pub(crate) struct Arguments {
    /// Number of hosts that become members; of 5, any 2 may fail.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=15))]
    pub(crate) members: u16,
    /// Number of further hosts, which become proxies. At most 15 hosts in all.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=14))]
    pub(crate) proxies: u16,
    /// Client port of the first host; each further host adds 10. A host's peer port is its client
    /// port + 1, and the discovery service's port is this one + 8.
    #[arg(long, default_value_t = 2379, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) base_port: u16,
    /// Directory for the hosts' data, which a later run continues from [default: a temporary
    /// directory, removed at the end].
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Mutual TLS for clients and peers, with certificates in the data directory, and a user root
    /// with a password.
    #[arg(long)]
    pub(crate) secure: bool,
    /// Restart a host that has died.
    #[arg(long)]
    pub(crate) restart: bool,
}
