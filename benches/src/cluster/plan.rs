//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::load::Shape;
use crate::server::Servers;

/// The command line of `cluster`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// Cluster sizes.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 5, 7])]
    pub members: Vec<usize>,
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Operations, in the order in which one cluster runs them.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Op::Put1, Op::Put, Op::RangeL, Op::RangeS])]
    pub ops: Vec<Op>,
    /// Clients, one request each in flight; `put1` always has one.
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// Connections that the clients share, spread over all members.
    #[arg(long, default_value_t = 20)]
    pub connections: usize,
    /// Seconds that a cell is measured.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds of load before each cell is measured.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// How often everything is measured.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Distinct keys that puts write, in order, over and over.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// How many of these keys are in the store before the first cell.
    #[arg(long, default_value_t = 0)]
    pub stored_keys: u64,
    /// Threads that make the load.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Where cluster.json, cluster.md and cluster.svg go.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Plan {
    /// How long a cell runs before it is measured.
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    /// How long a cell is measured.
    pub fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The size of the operation's load on a cluster of `members`.
    pub fn shape(&self, op: Op, members: usize) -> Shape {
        let (clients, connections) = match op {
            // The one client goes round all members, as clientv3's balancer does.
            Op::Put1 => (1, members),
            _ => (self.clients, self.connections.max(members)),
        };
        Shape {
            clients,
            connections,
            value_bytes: self.value_bytes,
            keys: self.keys,
            threads: self.threads,
        }
    }
}

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Many clients put.
    Put,
    /// One client puts.
    Put1,
    /// Many clients read one key, linearizable.
    RangeL,
    /// Many clients read one key, serializable.
    RangeS,
    /// Many clients put, each with a lease of its own.
    PutLease,
    /// Many clients renew a lease each, on a stream.
    KeepAlive,
}

impl Op {
    /// Its name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Put1 => "put1",
            Op::RangeL => "range-l",
            Op::RangeS => "range-s",
            Op::PutLease => "put-lease",
            Op::KeepAlive => "keep-alive",
        }
    }

    /// What it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Op::Put => "put, many clients",
            Op::Put1 => "put, one client",
            Op::RangeL => "linearizable get",
            Op::RangeS => "serializable get",
            Op::PutLease => "put with a lease",
            Op::KeepAlive => "lease renewal",
        }
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
