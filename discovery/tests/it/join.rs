//! Hosts that join at once, in any order, with crashes in between.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_discovery::{DiscoveryError, Note, Outcome, Registration, cluster_of, join, member_id};

use crate::client;
use crate::etcd::{Etcd, Process, SOON, free_port, program, registered};
use crate::faults::{Fate, Faults};
use crate::hosts::{boot, check, host, options};

/// Returns once there are `count` entries.
async fn until_registered(url: &str, count: usize) -> Result<()> {
    let looking = async {
        while registered(url).await.map_or(0, |ids| ids.len()) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let looked = tokio::time::timeout(SOON, looking).await;
    looked.with_context(|| format!("not {count} entries"))
}

#[tokio::test]
async fn of_all_hosts_at_once_exactly_n_are_members() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    for (size, hosts) in [(3_usize, 3_usize), (3, 8), (5, 8), (1, 4)] {
        let url = etcd.token(&size.to_string()).await?;
        let outcomes = boot(&url, (1..=hosts).map(|number| (number, Duration::ZERO))).await?;
        check(&outcomes, size)?;
        // Hosts that lost the race deleted their entries.
        ensure!(registered(&url).await?.len() == size, "{size} of {hosts}");
    }
    Ok(())
}

#[tokio::test]
async fn in_random_order_too() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let mut dice = 0x2545_f491_u64;
    for size in [3_usize, 5, 3, 5] {
        let url = etcd.token(&size.to_string()).await?;
        let delays: Vec<_> = (1..=8)
            .map(|number| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                (number, Duration::from_millis(dice % 40))
            })
            .collect();
        let outcomes = boot(&url, delays).await?;
        check(&outcomes, size)?;
        ensure!(registered(&url).await?.len() == size);
    }
    Ok(())
}

#[tokio::test]
async fn a_host_that_crashed_after_registering_takes_its_place() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let url = etcd.token("3").await?;
    let me = host(1, &url);
    // Without the note there is no registration.
    let fails: Note = Box::new(|| Err(io::ErrorKind::StorageFull.into()));
    let refused = join(&url, &me, &options(), Some(fails)).await;
    ensure!(
        matches!(refused, Err(DiscoveryError::Note(_))),
        "{refused:?}"
    );
    ensure!(registered(&url).await?.is_empty());
    let notes = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let counted = Arc::clone(&notes);
        let note: Note = Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let joining = tokio::spawn({
            let (url, me) = (url.clone(), me.clone());
            async move { join(&url, &me, &options(), Some(note)).await }
        });
        until_registered(&url, 1).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure!(!joining.is_finished(), "the cluster cannot be complete");
        joining.abort();
        ensure!(registered(&url).await? == [me.hex_id()]);
        ensure!(notes.load(Ordering::Relaxed) == 1, "noted once, at first");
    }
    let outcomes = boot(&url, (1..=5).map(|number| (number, Duration::ZERO))).await?;
    let members = check(&outcomes, 3)?;
    ensure!(members.contains(&1), "{members:?}");
    // Its data is gone, or it crashed later: the outcome reports the earlier registration.
    let again = join(&url, &me, &options(), None).await?;
    ensure!(
        matches!(again, Outcome::Member { resumed: true, .. }),
        "{again:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_to_the_put_is_no_loss() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    for fate in [Fate::LoseAnswer, Fate::LoseRequest] {
        let lost = std::sync::atomic::AtomicU32::new(0);
        let losing = move |line: &str| {
            let count = lost.fetch_add(
                u32::from(line.starts_with("PUT")),
                std::sync::atomic::Ordering::Relaxed,
            );
            if line.starts_with("PUT") && count < 2 {
                return fate.clone();
            }
            Fate::Pass
        };
        let faults = Faults::before(etcd.port(), losing).await?;
        let direct = etcd.token("1").await?;
        let url = faults.through(&direct, etcd.port());
        let outcome = join(&url, &host(1, &url), &options(), None).await?;
        ensure!(
            matches!(outcome, Outcome::Member { resumed: false, .. }),
            "{outcome:?}"
        );
        ensure!(registered(&direct).await?.len() == 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_dies_and_returns_is_waited_for() -> Result<()> {
    let Some(mut etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let url = etcd.token("3").await?;
    let first = tokio::spawn({
        let url = url.clone();
        async move { boot(&url, [(1, Duration::ZERO), (2, Duration::ZERO)]).await }
    });
    until_registered(&url, 2).await?;
    etcd.down();
    let third = tokio::spawn({
        let url = url.clone();
        async move { boot(&url, [(3, Duration::ZERO)]).await }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    etcd.up().await?;
    until_registered(&url, 3).await?;
    let mut outcomes = boot(&url, [(4, Duration::ZERO)]).await?;
    outcomes.extend(first.await??);
    outcomes.extend(third.await??);
    ensure!(check(&outcomes, 3)? == [1, 2, 3].into());
    Ok(())
}

#[tokio::test]
async fn who_is_late_leaves_no_trace_and_a_proxy_never_does() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let url = etcd.token("2").await?;
    let watching = tokio::spawn({
        let url = url.clone();
        async move { cluster_of(&url, &options()).await }
    });
    let outcomes = boot(&url, [(1, Duration::ZERO), (2, Duration::ZERO)]).await?;
    check(&outcomes, 2)?;
    let seen = tokio::time::timeout(SOON, watching).await???;
    let late = boot(&url, [(3, Duration::ZERO)]).await?;
    let Some((
        3,
        Outcome::Full {
            initial_cluster,
            size,
        },
    )) = late.first()
    else {
        bail!("{late:?}");
    };
    ensure!(*initial_cluster == seen && size.get() == 2);
    ensure!(cluster_of(&url, &options()).await? == seen);
    ensure!(registered(&url).await?.len() == 2);
    let index = client::ask("GET", &url, "").await?;
    let index = index.header("X-Etcd-Index").context("an index")?.to_owned();
    let late = boot(&url, [(4, Duration::ZERO)]).await?;
    ensure!(matches!(late[0].1, Outcome::Full { .. }));
    let after = client::ask("GET", &url, "").await?;
    ensure!(
        after.header("X-Etcd-Index") == Some(&index),
        "the host wrote something"
    );
    Ok(())
}

#[tokio::test]
async fn a_real_etcd_registers_as_we_do() -> Result<()> {
    let (Some(etcd), Some(binary)) = (Etcd::start().await?, program("etcd")?) else {
        return Ok(());
    };
    let url = etcd.token("2").await?;
    let dir = tempfile::tempdir()?;
    let client = format!("http://127.0.0.1:{}", free_port()?);
    let peers = [free_port()?, free_port()?].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new(binary);
    command
        .args(["--name=real", "--enable-v2=true", "--unsafe-no-fsync"])
        .arg(format!("--data-dir={}", dir.path().display()))
        .arg(format!("--discovery={url}"))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={}", peers.join(",")))
        .arg(format!("--initial-advertise-peer-urls={}", peers.join(",")));
    let _process = Process::start(&mut command)?;
    // The two wait for each other.
    let me = host(1, &url);
    let outcome = tokio::time::timeout(SOON, join(&url, &me, &options(), None)).await??;
    let Outcome::Member {
        initial_cluster, ..
    } = outcome
    else {
        bail!("{outcome:?}");
    };
    let real = Registration::new("real", &peers, &url);
    ensure!(real.id == member_id(&peers, &url));
    let mut expected = [me.value(), real.value()];
    let mut founders = registered(&url).await?;
    founders.sort_unstable();
    let mut ids = [me.hex_id(), real.hex_id()];
    ids.sort_unstable();
    ensure!(founders == ids, "{founders:?} are not {ids:?}");
    if !initial_cluster.starts_with(&expected[0]) {
        expected.reverse();
    }
    ensure!(initial_cluster == expected.join(","), "{initial_cluster}");
    // The real etcd starts with our host in its cluster; it is alone, so only its peer port
    // answers.
    let members = format!("{}/members", peers[0]);
    client::until_ok(&members).await?;
    let body = client::ask("GET", &members, "").await?.body;
    ensure!(body.contains("http://10.0.0.1:2380"), "{body}");
    Ok(())
}
