//! What to measure: the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::load::Op;
use crate::server::Servers;

/// The command line of `proxy`.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Which parts.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Part::Claim, Part::Added, Part::Memory])]
    pub parts: Vec<Part>,
    /// How often everything is measured, each time on fresh servers.
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    /// Seconds that a cell is measured.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds of load before each cell is measured.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Milliseconds after which `--proxy on` refreshes its list of members.
    #[arg(long, default_value_t = 5000)]
    pub refresh_interval: u64,
    /// Claim: how many proxies stand beside three members.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 2, 4, 10, 50])]
    pub proxies: Vec<usize>,
    /// Claim: how many members the same hosts would be.
    #[arg(long, value_delimiter = ',', default_values_t = [3, 5, 7])]
    pub sizes: Vec<usize>,
    /// Claim: the API of its puts and reads. etcd's v2 proxy has v2 only: with v3 its grpc-proxy
    /// runs.
    #[arg(long, value_enum, default_value_t = Api::V3)]
    pub api: Api,
    /// Claim: clients of the cells with many.
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// Claim: reads a second through every host, beside the puts.
    #[arg(long, default_value_t = 2.0)]
    pub reads: f64,
    /// Added: requests.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Op::V2Get, Op::V2Put, Op::V3Range, Op::V3Put])]
    pub ops: Vec<Op>,
    /// Added: clients of the cells with many.
    #[arg(long, default_value_t = 50)]
    pub added_clients: usize,
    /// Added, memory: our kinds of proxy.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Way::Proxy, Way::Gateway])]
    pub our_ways: Vec<Way>,
    /// Added, memory: their kinds of proxy.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Way::Proxy, Way::Gateway, Way::GrpcProxy])]
    pub their_ways: Vec<Way>,
    /// Memory: idle connections.
    #[arg(long, default_value_t = 1000)]
    pub idle: usize,
    /// Memory: open v2 watches.
    #[arg(long, default_value_t = 1000)]
    pub watches: usize,
    /// Memory: seconds after the watches, until the proxy holds what it keeps.
    #[arg(long, default_value_t = 12.0)]
    pub calm: f64,
    /// Where proxy.md and proxy.svg go.
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
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Puts stay as quick with any number of proxies, and become slower with more members.
    Claim,
    /// What a proxy adds to a request.
    Added,
    /// What a proxy holds.
    Memory,
}

/// Which API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Api {
    /// HTTP/1.1.
    V2,
    /// gRPC.
    V3,
}

/// A way to the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Way {
    /// No proxy; the members in turn.
    #[value(skip)]
    Direct,
    /// No proxy; the leader.
    #[value(skip)]
    Leader,
    /// No proxy; the member to which our proxy forwards reads.
    #[value(skip)]
    Preferred,
    /// `--proxy on`.
    Proxy,
    /// `gateway start`.
    Gateway,
    /// `grpc-proxy start`.
    GrpcProxy,
}

impl Way {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct, all members in turn",
            Way::Leader => "direct, the leader",
            Way::Preferred => "direct, the proxy's member",
            Way::Proxy => "--proxy on",
            Way::Gateway => "gateway",
            Way::GrpcProxy => "grpc-proxy",
        }
    }

    /// Whether a server's proxy of this kind forwards the request.
    pub fn forwards(self, api: Api, etcd: bool) -> bool {
        match self {
            Way::Proxy => api == Api::V2 || !etcd,
            Way::GrpcProxy => api == Api::V3,
            Way::Preferred => !etcd,
            Way::Direct | Way::Leader | Way::Gateway => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_forwards_what() {
        let ways = [Way::Direct, Way::Proxy, Way::Gateway, Way::GrpcProxy];
        let forwarding = |api, etcd| ways.map(|way| way.forwards(api, etcd));
        assert_eq!(forwarding(Api::V2, true), [true, true, true, false]);
        assert_eq!(forwarding(Api::V3, true), [true, false, true, true]);
        assert_eq!(forwarding(Api::V3, false), [true, true, true, true]);
    }
}
