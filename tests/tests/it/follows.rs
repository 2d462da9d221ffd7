//! `keelson follow` and `keelson cutover` of a real etcd, under writes: the standby has the same
//! contents at the same revisions, and a watch goes on there without a gap.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{HashKvRequest, PutRequest, WatchCreateRequest, WatchRequest};
use keelson_tests::proc::binary;
use keelson_tests::proc::client;
use keelson_tests::proc::cluster::{Cluster, Plan, READY_LIMIT};
use tokio::time::timeout;

use super::snapshots::{Peer, debians, newer, run};

/// Generous: a debug build on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Writes one key again and again, to the source until that refuses, then to the standby. Returns
/// the numbers of both, and the time between them.
async fn write(source: String, standby: String) -> Result<(i64, i64, Duration)> {
    let mut counts = [0, 0];
    let mut last = Instant::now();
    let mut gap = Duration::ZERO;
    let mut clients = [client::kv(&source).await?, client::kv(&standby).await?];
    let mut at = 0;
    while counts[1] < 20 {
        ensure!(last.elapsed() < LIMIT, "no write succeeds: {counts:?}");
        let put = PutRequest {
            key: "written".into(),
            value: format!("{at} {}", counts[at]).into(),
            ..PutRequest::default()
        };
        match clients[at].put(put).await {
            Ok(_) => {
                if counts[1] == 0 && at == 1 {
                    gap = last.elapsed();
                }
                counts[at] += 1;
                last = Instant::now();
            }
            // The fence, and the standby before it is open.
            Err(_) => at = 1,
        }
    }
    Ok((counts[0], counts[1], gap))
}

/// The revisions that a watch from `from` on delivers, up to `upto`.
async fn watch(url: &str, from: i64, upto: i64) -> Result<Vec<i64>> {
    let create = WatchCreateRequest {
        key: [0].to_vec().into(),
        range_end: [0].to_vec().into(),
        start_revision: from,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::StreamExt::chain(
        tokio_stream::once(create),
        tokio_stream::pending::<WatchRequest>(),
    );
    let mut client = WatchClient::new(client::lazy(url));
    let mut responses = client.watch(requests).await?.into_inner();
    let mut revisions = Vec::new();
    while revisions.last().is_none_or(|last| *last < upto) {
        let response = timeout(LIMIT, responses.message()).await??;
        let response = response.context("the watch has ended")?;
        ensure!(!response.canceled, "canceled: {response:?}");
        let pairs = response.events.into_iter().filter_map(|event| event.kv);
        revisions.extend(pairs.map(|pair| pair.mod_revision));
        revisions.dedup();
    }
    Ok(revisions)
}

async fn hash(url: &str, revision: i64) -> Result<(u32, i64)> {
    let mut maintenance = client::maintenance(url).await?;
    let hash = maintenance.hash_kv(HashKvRequest { revision }).await?;
    let hash = hash.into_inner();
    Ok((hash.hash, hash.compact_revision))
}

async fn revision(url: &str) -> Result<i64> {
    let status = client::status(url).await?;
    Ok(status.header.map_or(0, |header| header.revision))
}

async fn follows(peer: &Peer) -> Result<()> {
    let etcd = Cluster::start(&Plan::new(&peer.server, 1)).await?;
    let source = etcd.members[0].client_url.clone();
    let ctl =
        async |args: &[&str]| run(&peer.ctl, &[&["--endpoints", &source], args].concat()).await;
    let granted = ctl(&["lease", "grant", "3600"]).await?;
    let lease = granted.split(' ').nth(1).context("the id of a lease")?;
    ctl(&["put", "leased", "before", "--lease", lease]).await?;
    ctl(&["put", "gone", "before"]).await?;
    let ours = binary::ours()?;
    let mut cluster = Cluster::create(&Plan::new(&ours, 1))?;
    cluster.members[0].set_command(&["follow", "--from", &source]);
    cluster.members[0].start()?;
    cluster.wait_ready(READY_LIMIT).await?;
    let standby = cluster.members[0].client_url.clone();
    let writer = tokio::spawn(write(source.clone(), standby.clone()));
    ctl(&["del", "gone"]).await?;
    ctl(&["compact", "4"]).await?;
    let dir = cluster.dir().join(&cluster.members[0].name);
    let dir = dir.display().to_string();
    let said = run(&ours, &["cutover", "--data-dir", &dir]).await?;
    let end = revision(&source).await?;
    let (before, after, gap) = timeout(LIMIT, writer).await???;
    println!("{before} writes before, {after} after, {gap:?} between. {said}");
    assert!(0 < before && said.contains("is open for writes"), "{said}");
    assert_eq!(hash(&source, end).await?, hash(&standby, end).await?);
    let newest = revision(&standby).await?;
    assert_eq!(newest, end + after);
    // A client that has seen the source up to some revision goes on at the standby.
    let mut seen = watch(&source, 5, end).await?;
    seen.extend(watch(&standby, end + 1, newest).await?);
    assert_eq!(seen, (5..=newest).collect::<Vec<_>>());
    let times = [
        "--endpoints",
        &standby,
        "lease",
        "timetolive",
        lease,
        "--keys",
    ];
    let leases = run(&peer.ctl, &times).await?;
    ensure!(leases.contains("leased"), "{leases}");
    if ctl(&["put", "late", "v"]).await.is_ok() {
        bail!("the source is not fenced");
    }
    // etcd's reads are not: the message of the cut-over states so.
    ctl(&["get", "a"]).await?;
    Ok(())
}

#[tokio::test]
async fn etcd_of_debian_is_followed_and_replaced() -> Result<()> {
    match debians()? {
        Some(peer) => follows(&peer).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn etcd_3_5_is_followed_and_replaced() -> Result<()> {
    match newer()? {
        Some(peer) => follows(&peer).await,
        None => Ok(()),
    }
}
