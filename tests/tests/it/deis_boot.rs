//! A Deis platform on five members, while two at a time are killed with signal 9 and restarted: no
//! read fails, and nothing is lost.
//!
//! `KEELSON_SOAK=1` runs many rounds.

use anyhow::{Result, ensure};
use keelson_tests::deis::boot::{self, Hosts};
use keelson_tests::environment;
use keelson_tests::proc::binary;

/// The number of rounds in an ordinary run, and in a long one.
const ROUNDS: usize = 3;
const SOAK: usize = 40;

#[tokio::test]
async fn deis_boots_and_stays_up_while_members_die() -> Result<()> {
    stays_up(Hosts::Members).await
}

/// On hosts that are not members nothing fails at all, since their proxies are never down.
#[tokio::test]
async fn behind_proxies_deis_does_not_see_members_die() -> Result<()> {
    stays_up(Hosts::Proxies).await
}

async fn stays_up(hosts: Hosts) -> Result<()> {
    let soak = environment::setting("KEELSON_SOAK").is_some();
    let rounds = if soak { SOAK } else { ROUNDS };
    let ours = binary::ours()?;
    let (summary, violations) = boot::run(&ours, hosts, rounds, 3).await?;
    println!("{summary:?}");
    ensure!(0 < summary.answered && 0 < summary.events, "{summary:?}");
    // A real etcd answers reads before it has loaded its data, so only ours is checked.
    if ours.ends_with("etcd") {
        println!("{violations}");
        return Ok(());
    }
    ensure!(
        summary.violated == 0,
        "{} violations:\n{violations}",
        summary.violated
    );
    Ok(())
}
