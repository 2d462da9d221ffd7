//! The order of a run: rounds, servers in turn, works.

use anyhow::{Context, Result, ensure};
use keelson_tests::proc::cluster::Cluster;
use tonic::metadata::AsciiMetadataValue;

use super::load::{Load, add_users, disable, enable};
use super::plan::{Plan, WORKS, Work};
use super::report;
use crate::measure::{self, Measure};
use crate::progress;
use crate::server::{Server, in_turn};
use crate::table;

/// Runs the plan, prints the table, writes the file.
///
/// # Errors
/// A server does not start, or refuses a call.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_no_baseline("auth")?;
    ensure!(
        plan.rounds != 0 && plan.clients != 0 && plan.logins != 0,
        "nothing would be measured"
    );
    let servers = plan.servers.find()?;
    let outcomes = crate::block_on(rounds(plan, &servers))?;
    let text = report::markdown(plan, &servers, &outcomes);
    table::publish(plan.out.as_deref(), "auth.md", text)
}

/// By server, then by work.
async fn rounds(plan: &Plan, servers: &[Server]) -> Result<Vec<Vec<Measure>>> {
    let mut clusters = Vec::new();
    for server in servers {
        let cluster = server.start(&plan.servers, 1).await?;
        add_users(&cluster.endpoints()[0]).await?;
        clusters.push(cluster);
    }
    let mut outcomes = vec![vec![Measure::default(); WORKS.len()]; servers.len()];
    let progress = progress::bar(plan.rounds * servers.len());
    for round in 1..=plan.rounds {
        for (place, server) in in_turn(servers, round) {
            progress.set_message(server.name.clone());
            let cluster = &mut clusters[place];
            let measured = one_round(plan, cluster).await;
            let measured = measured.with_context(|| cluster.log_tails())?;
            for (sum, measure) in outcomes[place].iter_mut().zip(&measured) {
                sum.merge(measure);
            }
            cluster.members[0].alive()?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

/// Auth is off before it and after it.
async fn one_round(plan: &Plan, cluster: &Cluster) -> Result<Vec<Measure>> {
    let url = &cluster.endpoints()[0];
    let off = one_work(plan, cluster, Work::Put, None).await?;
    let token = enable(url).await?;
    let on = one_work(plan, cluster, Work::PutAsUser, Some(token)).await?;
    let logins = one_work(plan, cluster, Work::Login, None).await?;
    disable(url).await?;
    Ok(vec![off, on, logins])
}

async fn one_work(
    plan: &Plan,
    cluster: &Cluster,
    work: Work,
    token: Option<AsciiMetadataValue>,
) -> Result<Measure> {
    let window = plan.window();
    let load = Load::new(plan, work, &cluster.endpoints()[0], token);
    let load = tokio::task::spawn_blocking(move || load.run(window));
    let measure = measure::measure(window, &cluster.pids(), vec![load]).await?;
    let Measure {
        requests, tally, ..
    } = &measure;
    ensure!(
        *requests != 0,
        "no {} succeeded: {:?}",
        work.name(),
        tally.reasons
    );
    Ok(measure)
}
