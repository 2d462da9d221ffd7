//! What to measure: the command line.

use std::path::PathBuf;

use clap::Args;

use crate::server::Servers;

/// The command line of `watchers`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Watches, a connection each, on one server of one member.
    #[arg(long, default_value_t = 10_000)]
    pub count: usize,
    /// Keys that are set below the directory, one after the other.
    #[arg(long, default_value_t = 20)]
    pub events: usize,
    /// Watch with stream=true, instead of watching again after each event.
    #[arg(long)]
    pub stream: bool,
    /// How often everything is measured, each time on fresh servers.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Where watchers.md goes.
    #[arg(long)]
    pub out: Option<PathBuf>,
}
