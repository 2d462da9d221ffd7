//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::server::Servers;
use crate::tally::Window;

/// The command line of `disk`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Members of a cluster.
    #[arg(long, default_value_t = 3)]
    pub members: usize,
    /// Milliseconds by which each `fsync` and `fdatasync` of a slow disk takes longer.
    #[arg(long, default_value_t = 120)]
    pub delay_ms: u64,
    /// Clients that put, spread over the members.
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    /// Pause of a client between an answer and its next put, in milliseconds.
    #[arg(long, default_value_t = 30)]
    pub put_pause_ms: u64,
    /// Pause of a reader between an answer and its next range, in milliseconds.
    #[arg(long, default_value_t = 10)]
    pub range_pause_ms: u64,
    /// Seconds measured of each disk in a round.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds of load before that.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// How often everything is measured, each time on fresh servers.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Where disk.md goes.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Plan {
    /// The window of a disk, from now.
    pub fn window(&self) -> Window {
        let seconds = Duration::from_secs_f64;
        Window::after(seconds(self.warm_up), seconds(self.seconds))
    }
}
