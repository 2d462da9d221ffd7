//! The order of a run: rounds, servers in turn, the fast disk and the slow one.

use anyhow::{Context, Result, ensure};

use super::load::{self, Outcome};
use super::plan::Plan;
use super::{report, slow};
use crate::progress;
use crate::server::{Server, in_turn};
use crate::table;

/// Runs the plan, prints the table, writes the file.
///
/// # Errors
/// strace is missing, a server does not start, or all calls of a kind fail.
pub fn run(plan: &Plan) -> Result<()> {
    plan.servers.check_no_baseline("disk")?;
    ensure!(
        plan.rounds != 0 && plan.clients != 0 && plan.members > 1,
        "nothing would be measured: a client, a round and two members are the least"
    );
    slow::check()?;
    let servers = plan.servers.find()?;
    let outcomes = crate::block_on(rounds(plan, &servers))?;
    let text = report::markdown(plan, &servers, &outcomes);
    table::publish(plan.out.as_deref(), "disk.md", text)
}

/// By server: on the fast disk, and on the slow one.
async fn rounds(plan: &Plan, servers: &[Server]) -> Result<Vec<[Outcome; 2]>> {
    let mut outcomes = vec![[Outcome::default(), Outcome::default()]; servers.len()];
    let progress = progress::bar(plan.rounds * servers.len() * 2);
    for round in 1..=plan.rounds {
        for (place, server) in in_turn(servers, round) {
            for (disk, millis) in [0, plan.delay_ms].into_iter().enumerate() {
                let what = format!("{}, fsync + {millis} ms", server.name);
                progress.set_message(what.clone());
                let outcome = one_disk(plan, server, millis).await.context(what)?;
                outcomes[place][disk].merge(&outcome);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(outcomes)
}

async fn one_disk(plan: &Plan, server: &Server, millis: u64) -> Result<Outcome> {
    let micros = millis * 1000;
    let mut cluster = slow::start(server, &plan.servers, plan.members, micros).await?;
    let (urls, leader) = (cluster.endpoints(), cluster.leader().await?);
    let (plan, window) = (plan.clone(), plan.window());
    let load = tokio::task::spawn_blocking(move || load::run(&plan, &urls, leader, window));
    let outcome = load.await.context("the load panicked")?;
    for member in &mut cluster.members {
        member.alive()?;
    }
    let outcome = outcome.with_context(|| cluster.log_tails())?;
    let kinds = [
        &outcome.puts,
        &outcome.serializable,
        &outcome.at_leader,
        &outcome.at_followers,
    ];
    ensure!(
        kinds.iter().all(|kind| kind.total() != 0),
        "no call of some kind succeeded: {outcome:?}"
    );
    Ok(outcome)
}
