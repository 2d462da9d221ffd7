//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::server::Servers;
use crate::tally::Window;

/// What is measured, in this order in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Puts without auth.
    Put,
    /// Puts of a user with a write permission on a range of keys.
    PutAsUser,
    /// Logins of one user, whose password the server has seen before.
    Login,
}

/// All of them.
pub const WORKS: [Work; 3] = [Work::Put, Work::PutAsUser, Work::Login];

impl Work {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Work::Put => "put",
            Work::PutAsUser => "put with auth",
            Work::Login => "login",
        }
    }
}

/// The command line of `auth`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Rounds; the servers go first in turn.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds measured of each work in a round.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Clients of puts, with a connection each.
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// Clients that log in.
    #[arg(long, default_value_t = 4)]
    pub logins: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 64)]
    pub value_bytes: usize,
    /// Where auth.md goes.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Plan {
    /// The window of a work, from now.
    pub fn window(&self) -> Window {
        let seconds = Duration::from_secs_f64;
        Window::after(seconds(self.warm_up), seconds(self.seconds))
    }
}
