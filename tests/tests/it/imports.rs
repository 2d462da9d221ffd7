//! `keelson import` of etcd's data directories, after a kill: the database is behind the log then.

use anyhow::{Context, Result, ensure};
use keelson_proto::etcdserverpb::HashKvRequest;
use keelson_tests::proc::binary;
use keelson_tests::proc::client;
use keelson_tests::proc::cluster::{Cluster, Plan, READY_LIMIT};

use super::snapshots::{Peer, debians, newer, run_with};

/// Writes to both APIs, more than etcd keeps in its log without a snapshot.
pub(super) async fn fill(peer: &Peer, url: &str) -> Result<()> {
    let v2 = async |args: &[&str]| run_with("2", &peer.ctl, url, args).await;
    let v3 = async |args: &[&str]| run_with("3", &peer.ctl, url, args).await;
    let granted = v3(&["lease", "grant", "3600"]).await?;
    let lease = granted.split(' ').nth(1).context("the id of a lease")?;
    for number in 0..25 {
        let (key, value) = (format!("k{}", number % 7), number.to_string());
        v3(&["put", &key, &value, "--lease", lease]).await?;
        v2(&["set", &format!("/dir/{key}"), &value]).await?;
    }
    v3(&["del", "k3"]).await?;
    v3(&["compact", "9"]).await?;
    v3(&["role", "add", "reader"]).await?;
    v3(&["user", "add", "alice:password"]).await?;
    v3(&["user", "grant-role", "alice", "reader"]).await?;
    v2(&["mkdir", "/empty"]).await?;
    v2(&["rm", "/dir/k2"]).await?;
    v2(&["set", "/mortal", "soon", "--ttl", "3600"]).await?;
    // It depends on the indexes of all changes before.
    v2(&["set", "/dir/k1", "swapped", "--swap-with-value", "22"]).await?;
    Ok(())
}

pub(super) async fn contents(peer: &Peer, url: &str) -> Result<String> {
    let mut all = String::new();
    let v3: [&[&str]; 3] = [
        &["lease", "list"],
        &["user", "get", "alice", "--detail"],
        &["get", "", "--prefix", "-w", "fields"],
    ];
    for list in v3 {
        let text = run_with("3", &peer.ctl, url, list).await?;
        // The header names the cluster.
        let of_header = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""];
        let lines = text.lines();
        let lines = lines.filter(|line| !of_header.iter().any(|name| line.starts_with(name)));
        all += &lines.collect::<Vec<_>>().join("\n");
    }
    let v2: [&[&str]; 4] = [
        &["ls", "--recursive", "--sort", "-p", "/"],
        &["-o", "extended", "get", "/dir/k1"],
        &["-o", "extended", "get", "/dir/k5"],
        &["-o", "extended", "get", "/mortal"],
    ];
    for list in v2 {
        let text = run_with("2", &peer.ctl, url, list).await?;
        // Time passes, and the index of the answer counts members of the new cluster too.
        let passing = ["TTL", "Index"];
        let lines = text.lines();
        let lines = lines.filter(|line| !passing.iter().any(|name| line.starts_with(name)));
        all += &lines.collect::<Vec<_>>().join("\n");
    }
    let mut maintenance = client::maintenance(url).await?;
    let hash = maintenance
        .hash_kv(HashKvRequest::default())
        .await?
        .into_inner();
    Ok(all + &format!("{} from {}", hash.hash, hash.compact_revision))
}

async fn imports(peer: &Peer, plan: Plan) -> Result<()> {
    let mut etcd = Cluster::start(&plan).await?;
    let url = etcd.members[0].client_url.clone();
    fill(peer, &url).await?;
    let expected = contents(peer, &url).await?;
    let ours = binary::ours()?;
    let mut cluster = Cluster::create(&Plan::new(&ours, 1))?;
    let member = &cluster.members[0];
    let from = etcd.dir().join(&etcd.members[0].name).display().to_string();
    let dir = cluster.dir().join(&member.name).display().to_string();
    let listed = format!("{}={}", member.name, member.peer_url);
    let token = cluster.dir().display().to_string();
    let flags = [
        &["import", &from, "--data-dir", &dir, "--name", &member.name][..],
        &[
            "--initial-cluster",
            &listed,
            "--initial-cluster-token",
            &token,
        ],
        &["--initial-advertise-peer-urls", &member.peer_url],
    ];
    let refused = super::snapshots::run(&ours, &flags.concat()).await;
    let text = refused.err().map(|error| format!("{error:#}"));
    let text = text.unwrap_or_default();
    ensure!(text.contains("stop the etcd first"), "it runs: {text}");
    ensure!(text.contains(".wal"), "etcd 2 locks its log only: {text}");
    etcd.kill(0);
    super::snapshots::run(&ours, &flags.concat()).await?;
    cluster.members[0].start()?;
    cluster.wait_ready(READY_LIMIT).await?;
    assert_eq!(
        contents(peer, &cluster.members[0].client_url).await?,
        expected
    );
    Ok(())
}

#[tokio::test]
async fn a_killed_etcd_of_debian_is_imported() -> Result<()> {
    let Some(peer) = debians()? else {
        return Ok(());
    };
    let plan = Plan::new(&peer.server, 1).flag("--enable-v2");
    imports(&peer, plan).await
}

/// Its log is cut: the v2 store is in its snapshot.
#[tokio::test]
async fn a_killed_etcd_3_5_with_snapshots_is_imported() -> Result<()> {
    let Some(peer) = newer()? else {
        return Ok(());
    };
    let plan = Plan::new(&peer.server, 1)
        .flag("--enable-v2")
        .flag("--snapshot-count=40");
    imports(&peer, plan).await
}
