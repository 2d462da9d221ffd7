//! The requests, over either API.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::ValueEnum;
use keelson_tests::http::Request;

use super::plan::{Api, Plan};
use crate::cluster::load::{READ_KEY, Shape, Share};
use crate::cluster::plan as v3;
use crate::http1::closed_loop::ClosedLoop;
use crate::measure::Load;
use crate::tally::Window;

/// The key of the v2 requests.
pub const V2_PATH: &str = "/v2/keys/foo";

/// Clients that share a gRPC connection, as in `cluster`.
const CLIENTS_PER_CONNECTION: usize = 10;

/// Distinct keys of v3 puts.
const KEYS: u64 = 1_000_000;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Op {
    /// v2 GET.
    V2Get,
    /// v2 PUT.
    V2Put,
    /// v3 range, linearizable: grpc-proxy answers the others from its cache.
    V3Range,
    /// v3 put.
    V3Put,
}

impl Op {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Op::V2Get => "v2 GET",
            Op::V2Put => "v2 PUT",
            Op::V3Range => "v3 range",
            Op::V3Put => "v3 put",
        }
    }

    /// Its API.
    pub fn api(self) -> Api {
        match self {
            Op::V2Get | Op::V2Put => Api::V2,
            Op::V3Range | Op::V3Put => Api::V3,
        }
    }

    /// The put of an API.
    pub fn put(api: Api) -> Op {
        match api {
            Api::V2 => Op::V2Put,
            Api::V3 => Op::V3Put,
        }
    }
}

/// The PUT of the v2 key.
pub fn v2_put(plan: &Plan) -> Request {
    Request::put(V2_PATH, format!("value={}", "v".repeat(plan.value_bytes)))
}

/// The key that v3 reads.
pub fn v3_key() -> &'static [u8] {
    READ_KEY
}

/// Starts `clients` closed-loop clients of those URLs on threads of their own.
pub fn start(plan: &Plan, op: Op, urls: &[String], clients: usize, window: Window) -> Vec<Load> {
    let shares = |op| {
        let shape = Shape {
            clients,
            connections: clients.div_ceil(CLIENTS_PER_CONNECTION).max(urls.len()),
            value_bytes: plan.value_bytes,
            keys: KEYS,
            threads: 2,
        };
        let shares = Share::cut(op, shape, urls, &Arc::new(AtomicU64::new(0)));
        let start = |share: Share| tokio::task::spawn_blocking(move || share.run(window));
        shares.into_iter().map(start).collect()
    };
    let closed_loop = |request| {
        let load = ClosedLoop {
            urls: urls.to_vec(),
            request,
            clients,
        };
        vec![tokio::task::spawn_blocking(move || load.run(window))]
    };
    match op {
        Op::V2Get => closed_loop(Request::get(V2_PATH)),
        Op::V2Put => closed_loop(v2_put(plan)),
        Op::V3Range => shares(v3::Op::RangeL),
        Op::V3Put => shares(v3::Op::Put),
    }
}
