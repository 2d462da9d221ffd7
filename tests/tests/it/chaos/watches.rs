//! Watches on real processes through kills, stops, compactions and snapshots: what every watcher
//! receives must pass the nine checks, by what was acknowledged.

use bytes::Bytes;
use keelson_model::kv::Request;
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::{CompactionRequest, WatchCreateRequest};
use keelson_tests::chaos::watchers::{WatchRecords, WatcherPlan, Watchers};
use keelson_tests::chaos::writers::Writers;
use keelson_tests::check::watch::EventLog;

use super::membership::{ARRIVING, GONE, logged};
use super::*;

/// A member that is silent for so long is given up by its watchers.
pub(super) const IMPATIENT: Duration = Duration::from_secs(2);

/// Bytes of a value, and the number of such values: together more than can be in flight to a member
/// that does not read.
const LARGE: (usize, usize) = (256 << 10, 100);

/// Fewer revisions than any of the tests makes.
const MANY: i64 = 400;

/// A watcher of all that the writers write.
pub(super) fn plan_of_all(first: usize) -> WatcherPlan {
    WatcherPlan {
        request: WatchCreateRequest {
            key: "w/".into(),
            range_end: "w0".into(),
            start_revision: 1,
            prev_kv: true,
            ..Default::default()
        },
        first,
        patience: IMPATIENT,
    }
}

/// The watchers of each member.
pub(super) fn plans(members: usize) -> Vec<WatcherPlan> {
    let all = plan_of_all(0).request;
    let kinds = [
        // It stays with a member that is stopped.
        (all.clone(), LIMIT),
        (all.clone(), IMPATIENT),
        (
            WatchCreateRequest {
                key: "w/1/".into(),
                range_end: "w/10".into(),
                start_revision: 0,
                fragment: true,
                ..all.clone()
            },
            IMPATIENT,
        ),
        (
            WatchCreateRequest {
                filters: vec![FilterType::Noput.into()],
                progress_notify: true,
                ..all.clone()
            },
            IMPATIENT,
        ),
        (
            WatchCreateRequest {
                key: "w/0/1".into(),
                range_end: Bytes::new(),
                prev_kv: false,
                start_revision: 50,
                ..all
            },
            IMPATIENT,
        ),
    ];
    let of_member = |first| {
        kinds.iter().map(move |(request, patience)| WatcherPlan {
            request: request.clone(),
            first,
            patience: *patience,
        })
    };
    (0..members).flat_map(of_member).collect()
}

/// Compacts all but the last revisions; returns the request.
async fn compact(url: &str) -> Result<CompactionRequest> {
    let status = client::status(url).await?;
    let now = status.header.context("a header")?.revision;
    let request = CompactionRequest {
        revision: now - 20,
        physical: false,
    };
    client::kv(url).await?.compact(request).await?;
    Ok(request)
}

/// Puts a key that no watcher watches; returns the request and its revision.
async fn put(url: &str, key: &'static str, bytes: usize) -> Result<(i64, Request)> {
    let put = PutRequest {
        key: key.into(),
        value: Bytes::from(vec![b'x'; bytes]),
        ..Default::default()
    };
    let header = client::kv(url).await?.put(put.clone()).await?;
    let header = header.into_inner().header.context("a header")?;
    Ok((header.revision, Request::Put(put)))
}

/// Writes much that no watcher watches.
async fn write_much(url: &str) -> Result<Vec<(i64, Request)>> {
    let (bytes, count) = LARGE;
    let mut written = Vec::new();
    for _ in 0..count {
        written.push(put(url, "x/large", bytes).await?);
    }
    Ok(written)
}

/// What the test itself has requested.
#[derive(Default)]
pub(super) struct Others {
    /// Acknowledged writes and their revisions.
    pub(super) writes: Vec<(i64, Request)>,
    pub(super) compactions: Vec<CompactionRequest>,
    /// Granted leases and their times to live in seconds.
    pub(super) leases: Vec<(i64, i64)>,
}

/// Ends the writers, waits for the watchers, and checks what they received.
pub(super) async fn conclude(
    url: &str,
    writers: Writers,
    watchers: Vec<Watchers>,
    others: Others,
) -> Result<()> {
    concluded(url, writers, watchers, others).await.map(drop)
}

/// The same; returns the events of all revisions.
pub(super) async fn concluded(
    url: &str,
    writers: Writers,
    watchers: Vec<Watchers>,
    mut others: Others,
) -> Result<EventLog> {
    let mut written = writers.stop().await?;
    // Writes of unknown outcome that took effect come before this one, or never.
    others.writes.push(put(url, "x/last", 1).await?);
    for request in &others.compactions {
        written.compacted(request);
    }
    for (id, ttl) in others.leases {
        written.granted(id, ttl);
    }
    for (revision, request) in others.writes {
        written.acknowledged(revision, request);
    }
    let upto = written.revision();
    ensure!(MANY < upto, "{upto} revisions are too few");
    let mut records = WatchRecords::default();
    for group in watchers {
        group.reach(upto, LIMIT).await?;
        records.all.extend(group.stop().await.all);
    }
    let log = written.events(&records, upto.max(records.last_event()))?;
    let events = records.check(upto, &log)?;
    println!(
        "{upto} revisions, {} watchers, {events} events",
        records.all.len()
    );
    Ok(log)
}

#[tokio::test]
async fn watchers_miss_nothing_through_kills_stops_compactions_and_snapshots() -> Result<()> {
    let ours = binary::ours()?;
    if ours.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let plan = Plan::new(&ours, 3).cut_early();
    let mut cluster = Cluster::start(&plan).await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    let urls = cluster.endpoints();
    let writers = Writers::start(&urls, 4, "w/");
    let watchers = Watchers::start(&urls, plans(3));
    writers.progress(300, LIMIT).await?;
    let mut others = Others::default();
    others.compactions.push(compact(&urls[leader]).await?);

    // Its patient watcher is there when it installs a snapshot.
    let before = cluster.members[follower].log().len();
    let connected = cluster.members[leader].log().len();
    cluster.members[follower].pause()?;
    writers.progress(200, LIMIT).await?;
    // The leader keeps its log for a follower that it has not given up.
    logged(&mut cluster.members[leader], GONE, connected).await?;
    others.writes = write_much(&urls[leader]).await?;
    others.compactions.push(compact(&urls[leader]).await?);
    cluster.members[follower].resume()?;
    logged(&mut cluster.members[follower], ARRIVING, before).await?;
    writers.progress(100, LIMIT).await?;

    cluster.kill(leader);
    writers.progress(300, LIMIT).await?;
    others.compactions.push(compact(&urls[follower]).await?);
    cluster.restart_all().await?;
    writers.progress(200, LIMIT).await?;
    conclude(&urls[follower], writers, vec![watchers], others).await
}
