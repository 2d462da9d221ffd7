//! Kills two members of five under load with signal 9, one of them the leader, and restarts them:
//! no acknowledged write may be missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::Rng;
use rand::seq::IteratorRandom;

use super::verify::{self, CheckReport};
use crate::proc::cluster::Cluster;
use crate::proc::fleet::Fleet;

/// Duration of the load before the kill.
const BEFORE: Duration = Duration::from_millis(700);

/// Duration of the load after the first write that the survivors acknowledge: a second gap would be
/// visible in it.
const AFTER: Duration = Duration::from_millis(1500);

/// A limit far beyond any outage: after it there is no recovery.
const LIMIT: Duration = Duration::from_secs(60);

/// One round.
#[derive(Clone, Debug)]
pub struct Round {
    /// The longest time without an acknowledged write, over all clients.
    pub outage: Duration,
    /// The number of acknowledged writes.
    pub acked: usize,
    /// The number of writes of unknown outcome.
    pub unknown: usize,
    /// The names of the members that were killed.
    pub killed: Vec<String>,
    /// The result of the check.
    pub verdict: CheckReport,
}

/// Which members to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// The leader and a follower.
    WithLeader,
    /// Two followers.
    Followers,
}

/// Runs one round; `name` separates its keys from other rounds'.
///
/// # Errors
/// The cluster does not recover, or a member does not restart.
pub async fn run(
    cluster: &mut Cluster,
    clients: usize,
    victims: Victims,
    name: &str,
    rng: &mut impl Rng,
) -> Result<Round> {
    let prefix = format!("{name}/");
    let leader = cluster.leader().await?;
    let followers = cluster
        .running()
        .into_iter()
        .filter(|number| *number != leader);
    let killed = match victims {
        Victims::WithLeader => {
            let follower = followers.choose(rng).context("there is no follower")?;
            vec![leader, follower]
        }
        Victims::Followers => followers.choose_multiple(rng, 2),
    };

    let fleet = Fleet::start(&cluster.endpoints(), clients, &prefix);
    fleet.progress(1, LIMIT).await?;
    tokio::time::sleep(BEFORE).await;

    let at = Instant::now();
    for number in &killed {
        cluster.kill(*number);
    }
    let recovered = fleet.progress(clients as u64 * 2, LIMIT).await;
    recovered.with_context(|| cluster.log_tails())?;
    tokio::time::sleep(AFTER).await;
    let ledger = fleet.stop().await;

    cluster.restart_all().await?;
    let verdict = verify::verify(cluster, &ledger, &prefix).await?;
    Ok(Round {
        outage: ledger.longest_gap(at),
        acked: ledger.acked.len(),
        unknown: ledger.unknown.len(),
        killed: killed
            .iter()
            .map(|number| cluster.members[*number].name.clone())
            .collect(),
        verdict,
    })
}
