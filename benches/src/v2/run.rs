//! The order of a run: rounds, servers, operations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::Cluster;

use super::plan::{Loader, Op, Plan};
use super::report::Report;
use super::wrk::Wrk;
use crate::http1::closed_loop::ClosedLoop;
use crate::http1::connection;
use crate::measure::{Measure, measure};
use crate::progress;
use crate::server::{Server, in_turn};
use crate::tally::Window;

/// All cells, by the places of operation and server.
pub type Cells = BTreeMap<(usize, usize), Measure>;

/// Runs the plan, prints the table, writes the files.
///
/// # Errors
/// A server does not start, or ends by itself; the text holds the ends of the logs.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_rounds(plan.rounds)?;
    let servers = plan.servers.find_with_v2()?;
    let wrk = find_wrk(plan.loader)?;
    let cells = crate::block_on(measure_all(plan, &servers, wrk.as_deref()))?;
    let report = Report {
        plan: plan.clone(),
        servers,
        loader: if wrk.is_some() { "wrk" } else { "our own load" },
        cells,
    };
    print!("{}", report.markdown());
    if let Some(out) = &plan.out {
        report.write(out)?;
    }
    plan.servers.judge(|| report.changes())
}

fn find_wrk(loader: Loader) -> Result<Option<PathBuf>> {
    let wrk = match loader {
        Loader::Own => None,
        Loader::Auto | Loader::Wrk => binary::on_path("wrk"),
    };
    if loader == Loader::Wrk && wrk.is_none() {
        bail!("wrk is not on PATH");
    }
    Ok(wrk)
}

async fn measure_all(plan: &Plan, servers: &[Server], wrk: Option<&Path>) -> Result<Cells> {
    let progress = progress::bar(plan.rounds * servers.len() * plan.ops.len());
    let mut cells = Cells::new();
    for round in 1..=plan.rounds {
        for (place, server) in in_turn(servers, round) {
            let what = format!("round {round}: {}", server.name);
            progress.set_message(what.clone());
            let one = one_server(plan, server, wrk, &progress)
                .await
                .context(what)?;
            for (op, measure) in one.into_iter().enumerate() {
                cells.entry((op, place)).or_default().merge(&measure);
            }
        }
    }
    progress.finish_and_clear();
    Ok(cells)
}

/// Runs all operations on one fresh cluster.
async fn one_server(
    plan: &Plan,
    server: &Server,
    wrk: Option<&Path>,
    progress: &ProgressBar,
) -> Result<Vec<Measure>> {
    let mut cluster = server.start(&plan.servers, plan.members).await?;
    let (status, _) = connection::once(&cluster.endpoints()[0], &plan.request(Op::Put))?;
    ensure!(status == 201, "the first PUT is answered with {status}");
    let mut measures = Vec::new();
    for op in &plan.ops {
        let measure = match wrk {
            Some(program) => with_wrk(plan, *op, &cluster, program).await,
            None => with_own(plan, *op, &cluster).await,
        };
        let name = op.name();
        measures.push(measure.with_context(|| format!("{name}\n{}", cluster.log_tails()))?);
        progress.inc(1);
    }
    for member in &mut cluster.members {
        member.alive()?;
    }
    Ok(measures)
}

async fn with_wrk(plan: &Plan, op: Op, cluster: &Cluster, program: &Path) -> Result<Measure> {
    let wrk = Wrk {
        program: program.to_path_buf(),
        url: cluster.endpoints()[0].clone(),
        request: plan.request(op),
        connections: plan.connections,
        dir: cluster.dir().to_path_buf(),
    };
    if plan.warm_up > 0.0 {
        wrk.run(plan.warm_up(), &cluster.pids()).await?;
    }
    wrk.run(plan.measured(), &cluster.pids()).await
}

async fn with_own(plan: &Plan, op: Op, cluster: &Cluster) -> Result<Measure> {
    let load = ClosedLoop {
        urls: vec![cluster.endpoints()[0].clone()],
        request: plan.request(op),
        clients: plan.connections,
    };
    let window = Window::after(plan.warm_up(), plan.measured());
    let load = tokio::task::spawn_blocking(move || load.run(window));
    measure(window, &cluster.pids(), vec![load]).await
}
