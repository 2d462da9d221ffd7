//! The same v3 operations (on pairs, leases and watches) on Keelson and on Debian's etcd;
//! `golden/differences.md` has the accepted differences.
//!
//! `KEELSON_DIFF_SEED` and `KEELSON_DIFF_OPS` repeat a failure or run longer.

use std::path::Path;

use anyhow::Result;
use keelson_tests::differential::{auth, members, run};
use keelson_tests::environment::number;
use keelson_tests::proc::binary;

/// Operations of an ordinary test run, in total.
const OPERATIONS: usize = 20_000;

/// The seed of the calls of users in an ordinary test run.
const AUTH_SEED: u64 = 2;

/// Their number.
const AUTH_CALLS: usize = 2_000;

/// The number of sequences: the first thousand operations of a store find the most.
const SEQUENCES: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_etcds() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let operations = number("KEELSON_DIFF_OPS").map_or(OPERATIONS, |count| count as usize);
    let seeds = match number("KEELSON_DIFF_SEED") {
        Some(seed) => vec![seed],
        None => (1..=SEQUENCES as u64).collect(),
    };
    // At once: most of the time is spent waiting for one of two servers.
    let each = operations.div_ceil(seeds.len());
    let runs = seeds.into_iter().map(|seed| {
        let (ours, etcd) = (ours.clone(), etcd.clone());
        tokio::spawn(async move { (seed, run::run(&ours, &etcd, seed, each).await) })
    });
    let runs: Vec<_> = runs.collect();
    for run in runs {
        let (seed, summary) = run.await?;
        println!("seed {seed}: {:#?}", summary?);
    }
    Ok(())
}

/// Users, roles, logins, and requests by users of differing rights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_users_is_etcds() -> Result<()> {
    match binary::etcd_or_skip()? {
        Some(etcd) => users(&etcd).await,
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_users_is_that_of_etcd_3_5() -> Result<()> {
    match super::snapshots::newer()? {
        Some(peer) => users(&peer.server).await,
        None => Ok(()),
    }
}

async fn users(etcd: &Path) -> Result<()> {
    let ours = binary::ours()?;
    let calls = number("KEELSON_DIFF_OPS").map_or(AUTH_CALLS, |count| count as usize);
    let seed = number("KEELSON_DIFF_SEED").unwrap_or(AUTH_SEED);
    let summary = auth::run::run(&ours, etcd, seed, calls).await?;
    println!("seed {seed}: {summary:#?}");
    Ok(())
}

#[tokio::test]
async fn every_membership_change_is_answered_as_by_etcd() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let calls = members::run(&binary::ours()?, &etcd).await?;
    println!("{calls} calls");
    Ok(())
}
