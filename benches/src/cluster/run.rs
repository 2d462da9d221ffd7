//! The order of a run: sizes, rounds, servers, operations.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use bytes::Bytes;
use indicatif::ProgressBar;
use keelson_proto::etcdserverpb::PutRequest;
use keelson_tests::proc::client;

use super::cell::{self, Cells};
use super::load::{self, READ_KEY};
use super::plan::Plan;
use super::report::Report;
use crate::bulk::calls;
use crate::measure::Measure;
use crate::progress;
use crate::server::{Server, in_turn};

/// Runs the plan, prints the table, writes the files.
///
/// # Errors
/// A server does not start, or ends by itself; the text holds the ends of the logs.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_rounds(plan.rounds)?;
    let servers = plan.servers.find()?;
    let cells = crate::block_on(measure(plan, &servers))?;
    let report = Report::new(plan, &servers, cells);
    print!("{}", report.markdown());
    if let Some(out) = &plan.out {
        report.write(out)?;
    }
    plan.servers.judge(|| report.changes())
}

async fn measure(plan: &Plan, servers: &[Server]) -> Result<Cells> {
    let count = plan.rounds * plan.members.len() * servers.len() * plan.ops.len();
    let progress = progress::bar(count);
    let mut cells = Cells::new();
    for round in 1..=plan.rounds {
        for members in &plan.members {
            for (place, server) in in_turn(servers, round) {
                let what = format!("round {round}: {} x {members}", server.name);
                let context = || format!("{what} failed");
                let one = one_cluster(plan, server, *members, &what, &progress);
                for (op, measure) in one.await.with_context(context)?.into_iter().enumerate() {
                    cells
                        .entry((*members, op, place))
                        .or_default()
                        .merge(&measure);
                }
            }
        }
    }
    progress.finish_and_clear();
    Ok(cells)
}

/// Runs all operations on one fresh cluster.
async fn one_cluster(
    plan: &Plan,
    server: &Server,
    members: usize,
    what: &str,
    progress: &ProgressBar,
) -> Result<Vec<Measure>> {
    progress.set_message(format!("{what}, starting"));
    let mut cluster = server.start(&plan.servers, members).await?;
    let put = PutRequest {
        key: Bytes::from_static(READ_KEY),
        value: vec![b'v'; plan.value_bytes].into(),
        ..Default::default()
    };
    client::kv(&cluster.endpoints()[0]).await?.put(put).await?;
    let endpoints = cluster.endpoints();
    if plan.stored_keys > 0 {
        progress.set_message(format!("{what}, {} keys", plan.stored_keys));
        let keys = (0..plan.stored_keys).map(|number| (load::key(number), 0));
        calls::put_all(&endpoints[0], keys, plan.value_bytes).await?;
    }
    let next_key = Arc::new(AtomicU64::new(0));
    let mut measures = Vec::new();
    for op in &plan.ops {
        progress.set_message(format!("{what}, {op}"));
        let measure = cell::run(plan, *op, &mut cluster, &endpoints, &next_key).await;
        let measure = measure.with_context(|| format!("{op}\n{}", cluster.log_tails()))?;
        measures.push(measure);
        progress.inc(1);
    }
    Ok(measures)
}
