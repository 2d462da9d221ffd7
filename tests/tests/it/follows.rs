//! `keelson follow` and `keelson cutover` of a real etcd, under writes: the standby has the same
//! contents at the same revisions, v2 keys included; 16 clients write across the cut-over, and a
//! watch that was open before goes on there without a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{
    HashKvRequest, PutRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use keelson_tests::proc::binary;
use keelson_tests::proc::client;
use keelson_tests::proc::cluster::{Cluster, Plan, READY_LIMIT};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tonic::Streaming;

use super::snapshots::{Peer, debians, newer, run, run_with};

/// Generous: a debug build on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The clients that write, and what each writes to the standby once that is open.
const WRITERS: usize = 16;
const AFTER: usize = 5;
/// The pause before a refused write is repeated.
const RETRY: Duration = Duration::from_millis(5);
/// What a client may wait at a cut-over; only a hang takes longer.
const GAP_MAX: Duration = Duration::from_secs(20);

/// Where clients are, and how far they watch.
#[derive(Clone, Copy)]
struct Phase {
    /// 0: at the source; 1: at the standby.
    at: usize,
    /// The last revision that is watched.
    upto: i64,
}

/// What a client has seen.
struct Seen {
    /// The number of writes, or of revisions, at the source and at the standby.
    counts: [i64; 2],
    /// The time between the last success at the source and the first at the standby; of a watch
    /// the longest one between two revisions.
    gap: Duration,
}

/// Writes a key again and again, to the source until that refuses, which moves all clients, then
/// to the standby.
async fn write(key: String, urls: [String; 2], phase: watch::Sender<Phase>) -> Result<Seen> {
    let mut seen = Seen {
        counts: [0, 0],
        gap: Duration::ZERO,
    };
    let mut last = Instant::now();
    let mut clients = urls.map(|url| KvClient::new(client::lazy(&url)));
    while seen.counts[1] < AFTER as i64 {
        ensure!(last.elapsed() < LIMIT, "no write of {key} succeeds");
        let at = phase.borrow().at;
        let put = PutRequest {
            key: key.clone().into(),
            value: format!("{at} {}", seen.counts[at]).into(),
            ..PutRequest::default()
        };
        match clients[at].put(put).await {
            Ok(_) => {
                if at == 1 && seen.counts[1] == 0 {
                    seen.gap = last.elapsed();
                }
                seen.counts[at] += 1;
                last = Instant::now();
            }
            Err(status) if at == 0 && status.message().contains("corrupt") => {
                phase.send_modify(|phase| phase.at = 1);
            }
            // It is not open yet; or an error that passes.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
    Ok(seen)
}

async fn open_watch(url: &str, from: i64) -> Result<Streaming<WatchResponse>> {
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
    Ok(client.watch(requests).await?.into_inner())
}

/// Watches all keys from a revision on, and goes on at the standby behind the last revision that it
/// has seen when clients move there. Each revision, which has one change, must come once.
async fn watch_across(
    urls: [String; 2],
    from: i64,
    mut phase: watch::Receiver<Phase>,
    newest: Arc<AtomicI64>,
) -> Result<Seen> {
    let mut seen = Seen {
        counts: [0, 0],
        gap: Duration::ZERO,
    };
    let (mut next, mut last) = (from, Instant::now());
    loop {
        let at = phase.borrow_and_update().at;
        let mut responses = open_watch(&urls[at], next).await?;
        loop {
            let now = *phase.borrow_and_update();
            if now.upto < next {
                return Ok(seen);
            }
            if now.at != at {
                break;
            }
            let response = tokio::select! {
                changed = phase.changed() => {
                    changed?;
                    continue;
                }
                response = timeout(LIMIT, responses.message()) => response??,
            };
            let response = response.context("the watch has ended")?;
            ensure!(!response.canceled, "canceled: {response:?}");
            for pair in response.events.into_iter().filter_map(|event| event.kv) {
                ensure!(pair.mod_revision == next, "{pair:?}, and not {next}");
                seen.gap = seen.gap.max(last.elapsed());
                seen.counts[at] += 1;
                last = Instant::now();
                newest.store(next, Ordering::Relaxed);
                next += 1;
            }
        }
    }
}

/// Clients of a cluster that is followed, and then of its standby.
struct Clients {
    phase: watch::Sender<Phase>,
    writers: JoinSet<Result<Seen>>,
    watcher: JoinHandle<Result<Seen>>,
    /// The last revision that the watch has delivered.
    newest: Arc<AtomicI64>,
}

impl Clients {
    /// The watch begins at a revision.
    fn start(urls: [String; 2], from: i64) -> Clients {
        let (phase, phases) = watch::channel(Phase {
            at: 0,
            upto: i64::MAX,
        });
        let newest = Arc::new(AtomicI64::new(from));
        let watcher = watch_across(urls.clone(), from, phases, Arc::clone(&newest));
        let watcher = tokio::spawn(watcher);
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let key = format!("written/{number}");
            writers.spawn(write(key, urls.clone(), phase.clone()));
        }
        Clients {
            phase,
            writers,
            watcher,
            newest,
        }
    }

    /// Waits until the watch has delivered more revisions.
    async fn progress(&self, more: i64) -> Result<()> {
        let newest = || self.newest.load(Ordering::Relaxed);
        let (target, begin) = (newest() + more, Instant::now());
        while newest() < target {
            ensure!(begin.elapsed() < LIMIT, "{} of {target}", newest());
            ensure!(!self.watcher.is_finished(), "the watch has ended");
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    /// Waits until each has written to the standby, and the watch has delivered all. Returns the
    /// number of those writes, and what the watch has seen.
    async fn end(mut self, standby: &str) -> Result<(i64, Seen)> {
        let (mut after, mut gap) = (0, Duration::ZERO);
        while let Some(seen) = self.writers.join_next().await {
            let seen = seen??;
            after += seen.counts[1];
            gap = gap.max(seen.gap);
        }
        let upto = revision(standby).await?;
        self.phase.send_modify(|phase| phase.upto = upto);
        let watched = timeout(LIMIT, self.watcher).await???;
        println!(
            "the longest gap of {WRITERS} writers {gap:?}, and of a watch {:?} ({:?} revisions)",
            watched.gap, watched.counts
        );
        ensure!(gap.max(watched.gap) < GAP_MAX, "{gap:?} {:?}", watched.gap);
        Ok((after, watched))
    }
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

/// v2 keys with values, indexes and the index of the tree, and four events after an index.
async fn tree(peer: &Peer, url: &str, from: u64) -> Result<String> {
    let commands: [&[&str]; 5] = [
        &["ls", "--recursive", "--sort", "-p", "/"],
        &["-o", "extended", "get", "/dir/a"],
        &["-o", "extended", "get", "/mortal"],
        &["-o", "extended", "get", "/_named/before"],
        &["-o", "extended", "get", "/_new/after"],
    ];
    let mut all = String::new();
    // A watch prints one event and ends.
    let indexes: Vec<_> = (from..from + 4).map(|index| index.to_string()).collect();
    let watch = |after| ["watch", "--recursive", "--after-index", after, "/"];
    let events: Vec<[&str; 5]> = indexes.iter().map(|after| watch(after.as_str())).collect();
    let events = events.iter().map(|event| &event[..]);
    for command in commands.into_iter().chain(events) {
        let text = timeout(LIMIT, run_with("2", &peer.ctl, url, command)).await??;
        // Time passes.
        let lines = text.lines().filter(|line| !line.starts_with("TTL"));
        all.extend(lines.map(|line| format!("{line}\n")));
    }
    Ok(all)
}

async fn follows(peer: &Peer) -> Result<()> {
    let etcd = Cluster::start(&Plan::new(&peer.server, 1).flag("--enable-v2=true")).await?;
    let source = etcd.members[0].client_url.clone();
    let ctl =
        async |args: &[&str]| run(&peer.ctl, &[&["--endpoints", &source], args].concat()).await;
    let granted = ctl(&["lease", "grant", "3600"]).await?;
    let lease = granted.split(' ').nth(1).context("the id of a lease")?;
    ctl(&["put", "leased", "before", "--lease", lease]).await?;
    ctl(&["put", "gone", "before"]).await?;
    let v2 = async |args: &[&str]| run_with("2", &peer.ctl, &source, args).await;
    v2(&["set", "/_named/before", "1"]).await?;
    v2(&["set", "/dir/gone", "1"]).await?;
    let ours = binary::ours()?;
    let mut cluster = Cluster::create(&Plan::new(&ours, 1))?;
    cluster.members[0].set_command(&["follow", "--v2-hidden", "/_named", "--from", &source]);
    cluster.members[0].start()?;
    cluster.wait_ready(READY_LIMIT).await?;
    let standby = cluster.members[0].client_url.clone();
    let from = revision(&source).await? + 1;
    let clients = Clients::start([source.clone(), standby.clone()], from);
    clients.progress(100).await?;
    ctl(&["del", "gone"]).await?;
    ctl(&["compact", "4"]).await?;
    v2(&["rm", "/dir/gone"]).await?;
    v2(&["set", "/mortal", "2", "--ttl", "3600"]).await?;
    v2(&["set", "/_new/after", "3"]).await?;
    v2(&["set", "/dir/a", "4"]).await?;
    let dir = cluster.dir().join(&cluster.members[0].name);
    let dir = dir.display().to_string();
    let said = run(&ours, &["cutover", "--data-dir", &dir]).await?;
    let end = revision(&source).await?;
    let (after, watched) = timeout(LIMIT, clients.end(&standby)).await??;
    println!("{said}");
    assert!(said.contains("is open for writes"), "{said}");
    assert_eq!(hash(&source, end).await?, hash(&standby, end).await?);
    let newest = revision(&standby).await?;
    assert_eq!(newest, end + after);
    // Each came once, from the one or the other.
    assert!(0 < watched.counts[0] && after <= watched.counts[1]);
    assert_eq!(from + watched.counts[0] + watched.counts[1], newest + 1);
    // From the removal on, which is the sixth change, after those of a new etcd.
    assert_eq!(
        tree(peer, &standby, 5).await?,
        tree(peer, &source, 5).await?
    );
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

/// etcd 3.4 shows no revision of users and roles.
#[tokio::test]
async fn changed_users_of_debians_etcd_are_found_before_it_is_fenced() -> Result<()> {
    let Some(peer) = debians()? else {
        return Ok(());
    };
    let etcd = Cluster::start(&Plan::new(&peer.server, 1)).await?;
    let source = etcd.members[0].client_url.clone();
    let ctl =
        async |args: &[&str]| run(&peer.ctl, &[&["--endpoints", &source], args].concat()).await;
    ctl(&["role", "add", "root"]).await?;
    ctl(&["role", "add", "reader"]).await?;
    ctl(&["role", "grant-permission", "reader", "read", "a", "c"]).await?;
    ctl(&["user", "add", "alice:password"]).await?;
    ctl(&["user", "grant-role", "alice", "root"]).await?;
    let ours = binary::ours()?;
    let mut cluster = Cluster::create(&Plan::new(&ours, 1))?;
    cluster.members[0].set_command(&["follow", "--from", &source]);
    cluster.members[0].start()?;
    cluster.wait_ready(READY_LIMIT).await?;
    let dir = cluster.dir().join(&cluster.members[0].name);
    let dir = dir.display().to_string();
    let cut = async || run(&ours, &["cutover", "--data-dir", &dir]).await;
    ctl(&["user", "grant-role", "alice", "reader"]).await?;
    let begin = Instant::now();
    let refused = loop {
        let refused = cut().await.err().context("it has former roles")?;
        // The socket comes with the follower.
        if !refused.to_string().contains("no answer of the follower") {
            break refused.to_string();
        }
        ensure!(begin.elapsed() < LIMIT, "{refused}");
        tokio::time::sleep(RETRY).await;
    };
    ensure!(refused.contains("users or roles"), "{refused}");
    ensure!(refused.contains(r#"user "alice""#), "{refused}");
    ctl(&["put", "not", "fenced"]).await?;
    // It begins anew meanwhile.
    let begin = Instant::now();
    let said = loop {
        match cut().await {
            Ok(said) => break said,
            Err(error) => ensure!(begin.elapsed() < LIMIT, "{error}"),
        }
        tokio::time::sleep(RETRY).await;
    };
    ensure!(said.contains("a password that was changed"), "{said}");
    let standby = &cluster.members[0].client_url;
    let alice = ["--endpoints", standby, "user", "get", "alice"];
    let alice = run(&peer.ctl, &alice).await?;
    ensure!(alice.contains("reader root"), "{alice}");
    Ok(())
}
