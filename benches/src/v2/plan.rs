//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use keelson_tests::http::Request;

use crate::server::Servers;

/// The key that all clients read and write.
pub const PATH: &str = "/v2/keys/foo";

/// The command line of `v2`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Operations, in the order in which one server runs them.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Op::Get, Op::QuorumGet, Op::Put])]
    pub ops: Vec<Op>,
    /// Members of a cluster; the load goes to the first.
    #[arg(long, default_value_t = 1)]
    pub members: usize,
    /// Connections, one request each in flight.
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    /// Seconds that an operation is measured.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds of load before each operation is measured.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// How often everything is measured, each time on fresh servers.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Bytes of the value.
    #[arg(long, default_value_t = 16)]
    pub value_bytes: usize,
    /// What makes the load.
    #[arg(long, value_enum, default_value_t = Loader::Auto)]
    pub loader: Loader,
    /// Where v2.md and v2.svg go.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Plan {
    /// How long an operation runs before it is measured.
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    /// How long an operation is measured.
    pub fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The operation's request.
    pub fn request(&self, op: Op) -> Request {
        match op {
            Op::Get => Request::get(PATH),
            Op::QuorumGet => Request::get(format!("{PATH}?quorum=true")),
            Op::Put => Request::put(PATH, format!("value={}", "v".repeat(self.value_bytes))),
        }
    }
}

/// What makes the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Loader {
    /// wrk if it is there, else our own.
    Auto,
    /// wrk, with one thread.
    Wrk,
    /// Our own, with one thread.
    Own,
}

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// A GET, answered from what the member has.
    Get,
    /// A GET with quorum=true.
    QuorumGet,
    /// A PUT.
    Put,
}

impl Op {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Op::Get => "GET",
            Op::QuorumGet => "GET ?quorum=true",
            Op::Put => "PUT",
        }
    }
}
