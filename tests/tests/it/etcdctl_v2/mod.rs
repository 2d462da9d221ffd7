//! Debian's etcdctl 3.4.23 with `ETCDCTL_API=2`, with Keelson and with Debian's etcd: the same
//! output, the same errors, the same exit codes.
//!
//! Member ids and addresses are masked; everything else must agree, also through a proxy. `backup`
//! is not tested: it reads etcd's own files, and our data directory has none.

mod scripts;
mod side;

use std::time::Duration;

use anyhow::{Result, ensure};
use keelson_tests::proc::binary;

use scripts::{ACCOUNTS, KEYS, MEMBERS};
use side::{LIMIT, Side};

async fn both(members: usize) -> Result<Option<(Side, Side)>> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(None);
    };
    let ours = Side::start(&binary::ours()?, members).await?;
    let theirs = Side::start(&etcd, members).await?;
    Ok(Some((ours, theirs)))
}

/// Ours behind a proxy, etcd directly.
async fn both_through_a_proxy(members: usize) -> Result<Option<(Side, Side)>> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(None);
    };
    let ours = Side::behind_a_proxy(&binary::ours()?, members).await?;
    let theirs = Side::without_sync(&etcd, members).await?;
    Ok(Some((ours, theirs)))
}

/// Adds a difference.
fn differ(differences: &mut String, line: &str, our: &str, their: &str) {
    if our != their {
        *differences += &format!("$ etcdctl {line}\n--- ours\n{our}\n--- etcd's\n{their}\n\n");
    }
}

fn lines(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter(|line| !line.is_empty())
}

#[tokio::test]
async fn keys_look_the_same_to_etcdctl() -> Result<()> {
    keys(both(1).await?).await
}

#[tokio::test]
async fn keys_look_the_same_through_a_proxy() -> Result<()> {
    keys(both_through_a_proxy(1).await?).await
}

async fn keys(sides: Option<(Side, Side)>) -> Result<()> {
    let Some((ours, theirs)) = sides else {
        return Ok(());
    };
    let mut differences = String::new();
    for line in lines(KEYS) {
        let (our, their) = (ours.line(line)?, theirs.line(line)?);
        differ(&mut differences, line, &our, &their);
    }
    let watches: [(&str, &[&str]); 6] = [
        ("watch /w", &["set /w 1", "set /w 2"]),
        ("watch --recursive /v", &["set /v/a/b 1"]),
        ("-o json watch -r /", &["set /_hidden 1", "set /u 1"]),
        (
            "watch --forever /w",
            &["set /w 3", "update /w 4", "rm /w", "set /x 1"],
        ),
        ("exec-watch --recursive /w -- env", &["set /w 5"]),
        (
            "exec-watch --recursive /t -- sh -c 'echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY \
          $ETCD_WATCH_VALUE $ETCD_WATCH_MODIFIED_INDEX'",
            &["set /t/1 x", "rm /t/1"],
        ),
    ];
    for (watch, writes) in watches {
        let only = |text: String| {
            let kept = text.lines().filter(|line| {
                !watch.ends_with("env")
                    || line.starts_with("ETCD_WATCH")
                    || line.starts_with("exit")
            });
            let mut kept: Vec<&str> = kept.collect();
            if watch.ends_with("env") {
                kept.sort_unstable();
            }
            kept.join("\n")
        };
        let (our, their) = (ours.watch(watch, writes)?, theirs.watch(watch, writes)?);
        let seen = their.lines().skip(1).any(|line| !line.is_empty());
        ensure!(seen, "{watch} saw nothing of etcd: {their}");
        differ(&mut differences, watch, &only(our), &only(their));
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}

#[tokio::test]
async fn accounts_look_the_same_to_etcdctl() -> Result<()> {
    accounts(both(1).await?).await
}

#[tokio::test]
async fn accounts_look_the_same_through_a_proxy() -> Result<()> {
    accounts(both_through_a_proxy(3).await?).await
}

async fn accounts(sides: Option<(Side, Side)>) -> Result<()> {
    let Some((ours, theirs)) = sides else {
        return Ok(());
    };
    let mut differences = String::new();
    for line in lines(ACCOUNTS) {
        let (our, their) = (ours.line(line)?, theirs.line(line)?);
        differ(&mut differences, line, &our, &their);
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}

#[tokio::test]
async fn members_look_the_same_to_etcdctl() -> Result<()> {
    members(both(3).await?).await
}

#[tokio::test]
async fn members_look_the_same_through_a_proxy() -> Result<()> {
    members(both_through_a_proxy(3).await?).await
}

async fn members(sides: Option<(Side, Side)>) -> Result<()> {
    let Some((mut ours, mut theirs)) = sides else {
        return Ok(());
    };
    let mut differences = String::new();
    let mut removed = false;
    for line in lines(MEMBERS) {
        if line.starts_with("member add again") {
            // Within one second the id would be the same, and the error another.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        let (our, their) = (ours.line(line)?, theirs.line(line)?);
        differ(&mut differences, line, &our, &their);
        removed |= line == "member remove {OLD}";
        for side in [&mut ours, &mut theirs] {
            side.agree(3 - usize::from(removed))?;
            if line.starts_with("member add new") {
                side.new = side.id_of("unstarted")?;
            }
            if line == "member remove {OLD}" {
                // It stops by itself a second later, and cluster-health must not find it alive.
                let last = side.cluster.members.len() - 1;
                side.cluster.kill(last);
                // If it led, the others elect first.
                side.cluster.wait_ready(LIMIT).await?;
            }
        }
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}
