//! Backups of five members under writes and kills: each is a revision of the acknowledged history,
//! is restored, and has the same contents then; one of them becomes a cluster.

use std::path::{Path, PathBuf};

use keelson_proto::etcdserverpb::HashKvRequest;
use keelson_store::snapshot::{SnapshotFile, hash_kv};
use keelson_tests::chaos::backups::{Savers, check, restore_each};
use keelson_tests::chaos::watchers::Watchers;
use keelson_tests::chaos::writers::Writers;
use keelson_tests::check::watch::EventLog;

use super::watches::{Others, concluded, plan_of_all};
use super::*;
use crate::snapshots::restored;

/// The member that saves by itself.
const SAVING: usize = 0;

/// The scheduled snapshots in a directory, the oldest first.
fn scheduled(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "db") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Waits until there are more scheduled snapshots.
async fn saved(dir: &Path, more: usize) -> Result<()> {
    let begin = Instant::now();
    let target = scheduled(dir)?.len() + more;
    while scheduled(dir)?.len() < target {
        ensure!(
            begin.elapsed() < LIMIT,
            "no {target} snapshots in {LIMIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Checks the snapshots of a member; returns the last one's revision.
fn check_all(files: &[PathBuf], history: &EventLog) -> Result<i64> {
    let mut last = 0;
    for file in files {
        let revision = check(file, history).with_context(|| file.display().to_string())?;
        ensure!(
            last <= revision,
            "{} goes back from {last} to {revision}",
            file.display()
        );
        last = revision;
    }
    Ok(last)
}

/// The snapshot becomes a cluster of one with the same history, which takes writes.
async fn starts(ours: &Path, file: &Path) -> Result<()> {
    let expected = hash_kv(&SnapshotFile::open(file)?, 0)?;
    let path = file.display().to_string();
    let flags: (&[&str], &[&str]) = (&["util"], &["--bump-revision=0"]);
    let cluster = restored(ours, ours, flags, &path).await?;
    let url = &cluster.members[0].client_url;
    let request = HashKvRequest {
        revision: expected.hash_revision,
    };
    let hash = client::maintenance(url).await?.hash_kv(request).await?;
    ensure!(hash.into_inner().hash == expected.hash, "another history");
    let put = PutRequest {
        key: "restored".into(),
        ..PutRequest::default()
    };
    let put = client::kv(url).await?.put(put).await?.into_inner();
    let revision = put.header.context("a header")?.revision;
    ensure!(revision == expected.hash_revision + 1, "{revision}");
    Ok(())
}

#[tokio::test]
async fn each_backup_during_kills_is_a_revision_of_the_acknowledged_history() -> Result<()> {
    let ours = binary::ours()?;
    if ours.ends_with("etcd") {
        return Ok(());
    }
    let alone = alone().await;
    let mut cluster = Cluster::create(&Plan::new(&ours, 5))?;
    let dir = cluster.dir().join("backups");
    std::fs::create_dir(&dir)?;
    let flag = format!("--backup-dir={}", dir.display());
    cluster.members[SAVING].add_flags(&[&flag, "--backup-interval=1s", "--backup-keep=1000"]);
    cluster.restart_all().await?;
    let urls = cluster.endpoints();
    let watchers = Watchers::start(&urls, vec![plan_of_all(1)]);
    let writers = Writers::start(&urls, 6, "w/");
    let savers = Savers::start(&urls[SAVING + 1..], cluster.dir());
    writers.progress(200, LIMIT).await?;
    saved(&dir, 1).await?;

    let leader = cluster.leader().await?;
    let other = (1..5)
        .find(|number| *number != leader)
        .context("a member")?;
    cluster.kill(leader);
    cluster.kill(other);
    writers.progress(200, LIMIT).await?;
    cluster.restart_all().await?;
    writers.progress(100, LIMIT).await?;
    saved(&dir, 1).await?;
    // Perhaps while it saves.
    cluster.kill(SAVING);
    writers.progress(100, LIMIT).await?;
    cluster.restart_all().await?;
    saved(&dir, 2).await?;
    writers.progress(50, LIMIT).await?;

    let others = savers.stop().await;
    let url = &urls[other];
    let history = concluded(url, writers, vec![watchers], Others::default()).await?;
    (0..5).for_each(|number| cluster.kill(number));
    let scheduled = scheduled(&dir)?;
    let newest = check_all(&scheduled, &history)?;
    ensure!(400 < newest, "the newest is of revision {newest}");
    let mut all = scheduled.clone();
    for files in others {
        ensure!(!files.is_empty(), "a member without snapshots");
        check_all(&files, &history)?;
        all.extend(files);
    }
    let (count, begin) = (all.len(), Instant::now());
    restore_each(all).await?;
    let took = begin.elapsed();
    println!(
        "{count} snapshots restored in {took:?}, {} of them scheduled",
        scheduled.len()
    );
    starts(&ours, scheduled.last().context("a snapshot")?).await?;
    // The restores take both processors.
    drop(alone);
    Ok(())
}
