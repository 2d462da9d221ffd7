//! A store inside a program: a single member, and three that form a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use keelson_proto::etcdserverpb::*;
use keelson_store::config::{AutoCompaction, StorageEngine, Url};
use keelson_store::{Config, Error, OpenError, StateError, Store};

#[path = "../../../tests/src/proc/ports.rs"]
#[expect(unreachable_pub, reason = "it is a library's module in keelson-tests")]
mod ports;

mod divergence;
mod membership;
mod peer_tls;
mod peers;
mod space;
mod upgrades;

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..PutRequest::default()
    }
}

pub(crate) fn members(dir: &std::path::Path, count: usize) -> Vec<Config> {
    let ports = ports::free(count).expect("free ports");
    let url = |port| Url::http("127.0.0.1", port);
    let urls: Vec<Url> = ports.into_iter().map(url).collect();
    let names: Vec<String> = (1..=count).map(|number| format!("m{number}")).collect();
    let cluster: Vec<_> = names.iter().cloned().zip(urls.iter().cloned()).collect();
    let config = |(name, url): &(String, Url)| Config {
        listen_peer_urls: vec![url.clone()],
        initial_advertise_peer_urls: vec![url.clone()],
        initial_cluster: cluster.clone(),
        ..Config::single(name, dir.join(name))
    };
    cluster.iter().map(config).collect()
}

/// Opens a member. When a test fails, its directory is removed before its members have stopped: the
/// process goes on after their fatal errors, so that the failure is reported.
pub(crate) async fn open_one(config: Config) -> Result<Store, OpenError> {
    Store::open_with(config, Arc::new(|_| {})).await
}

/// Opens members and waits until they are ready.
pub(crate) async fn open(configs: Vec<Config>) -> anyhow::Result<Vec<Store>> {
    let opened = join_all(configs.into_iter().map(open_one)).await;
    let stores = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
    join_all(stores.iter().map(Store::ready)).await;
    Ok(stores)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_keeps_what_it_acknowledged_on_lmdb() -> anyhow::Result<()> {
    keeps_what_it_acknowledged(StorageEngine::Lmdb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_keeps_what_it_acknowledged_on_sled() -> anyhow::Result<()> {
    keeps_what_it_acknowledged(StorageEngine::Sled).await
}

async fn keeps_what_it_acknowledged(storage_engine: StorageEngine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        storage_engine,
        ..Config::single("alone", dir.path())
    };
    let store = open_one(config.clone()).await?;
    store.ready().await;
    for number in 0..100 {
        let response = store.put(put("key", &number.to_string())).await?;
        let revision = response.header.map(|header| header.revision);
        assert_eq!(revision, Some(number + 2));
    }
    store.shutdown().await;
    drop(store);
    let store = open_one(config).await?;
    store.ready().await;
    let kv = store.get("key").await?.expect("the key");
    assert_eq!(
        (&kv.value[..], kv.version, kv.mod_revision),
        (&b"99"[..], 100, 101)
    );
    store.shutdown().await;
    Ok(())
}

/// It was read at once: a put whose task has the same thread waited for it.
#[tokio::test]
async fn other_tasks_have_their_turn_while_a_long_range_is_read() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(Config::single("alone", dir.path())).await?;
    store.ready().await;
    let value = "v".repeat(1000);
    let puts = (0..500).map(|number| store.put(put(&format!("k{number:03}"), &value)));
    for put in join_all(puts).await {
        put?;
    }
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let counter = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    tokio::task::yield_now().await;
    let range = |limit, sort_target| RangeRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
        serializable: true,
        limit,
        sort_target,
        ..RangeRequest::default()
    };
    for limit in [0, 1, 300, 499, 500, 501] {
        let before = turns.load(Ordering::Relaxed);
        let steps = store.range(range(limit, 0)).await?;
        let had = turns.load(Ordering::Relaxed) - before;
        assert_eq!(had != 0, limit != 1, "{had} turns, limit {limit}");
        // A range in the order of versions is read at once; all are equal here.
        let version = range_request::SortTarget::Version.into();
        let at_once = store.range(range(limit, version)).await?;
        assert_eq!(steps, at_once, "limit {limit}");
    }
    counter.abort();
    store.shutdown().await;
    Ok(())
}

/// On a single-threaded runtime an aborted task runs, and keeps the port, until its next await.
#[tokio::test]
async fn the_peer_port_is_free_when_shutdown_returns() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = members(dir.path(), 3);
    let stores = open(configs.clone()).await?;
    for (store, config) in stores.iter().zip(&configs) {
        store.shutdown().await;
        std::net::TcpListener::bind(config.listen_peer_urls[0].authority())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_sent_the_past_and_what_follows_until_the_member_stops() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(Config::single("alone", dir.path())).await?;
    store.ready().await;
    store.put(put("a", "1")).await?;
    let mut watch = store.watch(WatchCreateRequest {
        key: "a".into(),
        start_revision: 2,
        prev_kv: true,
        ..WatchCreateRequest::default()
    });
    assert!(watch.next().await?.created);
    assert_eq!(watch.next().await?.events.len(), 1);
    let (written, next) = tokio::join!(store.put(put("a", "2")), watch.next());
    let event = next?.events.pop().expect("an event");
    assert_eq!(
        event.kv.expect("a pair").mod_revision,
        written?.header.unwrap().revision
    );
    assert_eq!(event.prev_kv.expect("it existed").value, "1");
    let ((), ended) = tokio::join!(store.shutdown(), watch.next());
    assert!(matches!(ended, Err(Error::Stopped)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_are_one_store() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(members(dir.path(), 3)).await?;
    for (number, store) in stores.iter().enumerate() {
        store.put(put(&format!("from-{number}"), "x")).await?;
    }
    for store in &stores {
        let all = RangeRequest {
            key: Bytes::from_static(b"from-"),
            range_end: Bytes::from_static(b"from."),
            ..RangeRequest::default()
        };
        assert_eq!(store.range(all).await?.count, 3);
        assert_eq!(store.member_list(true).await?.members.len(), 3);
    }
    for store in &stores {
        store.shutdown().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_ends_although_writes_do_not() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        unsafe_no_fsync: true,
        ..Config::single("alone", dir.path())
    };
    let store = open_one(config).await?;
    store.ready().await;
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let key = format!("{writer}-{}", number % 500);
                if store.put(put(&key, "value")).await.is_err() {
                    return;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let revision = store.get("0-0").await?.expect("written").mod_revision;
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    let compacted = store.compact(request);
    tokio::time::timeout(Duration::from_secs(20), compacted).await??;
    for writer in writers {
        writer.abort();
    }
    store.shutdown().await;
    Ok(())
}

/// The remedy in the error about a damaged engine.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_engine_is_rebuilt_from_a_log_that_reaches_back() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(Config::single("alone", dir.path())).await?;
    store.ready().await;
    store.put(put("key", "value")).await?;
    store.shutdown().await;
    drop(store);
    let snap = dir.path().join("member").join("snap");
    std::fs::rename(&snap, dir.path().join("moved-away"))?;
    let store = open_one(Config::single("alone", dir.path())).await?;
    store.ready().await;
    let kv = store.get("key").await?.expect("the key");
    assert_eq!(&kv.value[..], b"value");
    store.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_continues_alone_with_force_new_cluster() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = members(dir.path(), 3);
    let stores = open(configs.clone()).await?;
    stores[0].put(put("key", "value")).await?;
    stores[0].read_index().await?;
    for store in &stores {
        store.shutdown().await;
    }
    drop(stores);
    let alone = Config {
        force_new_cluster: true,
        ..configs[0].clone()
    };
    let store = open_one(alone).await?;
    store.ready().await;
    store.put(put("another", "value")).await?;
    assert_eq!(store.get("key").await?.expect("the key").version, 1);
    assert_eq!(store.member_list(true).await?.members.len(), 1);
    store.shutdown().await;
    Ok(())
}

/// A removal that a member has applied is in its data, so it needs no other member to detect it.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_finds_that_out_alone() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = members(dir.path(), 2);
    let mut stores = open(configs.clone()).await?;
    // A leader applies its own removal before it stops; a follower may not receive the commit
    // index.
    let leader = stores[0].status().leader;
    let leads = stores
        .iter()
        .position(|store| store.member_id().0 == leader)
        .expect("one of them leads");
    let removed = stores.remove(leads);
    // The quorum without it must have been healthy for a while.
    while let Err(error) = removed.member_remove(removed.member_id()).await {
        anyhow::ensure!(error == Error::Unhealthy, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    removed.removed().await;
    stores[0].shutdown().await;
    removed.shutdown().await;
    drop((stores, removed));
    let again = open_one(configs[leads].clone()).await?;
    let found = tokio::time::timeout(Duration::from_secs(60), again.removed()).await;
    again.shutdown().await;
    Ok(found?)
}

/// It waited twice for an election timeout, for a successor that cannot exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_another_voter_stops_at_once() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        election_ms: 40_000,
        ..Config::single("m1", dir.path())
    };
    let store = open_one(config).await?;
    store.ready().await;
    let learner = MemberAddRequest {
        peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
        is_learner: true,
    };
    store.member_add(learner).await?;
    let stopping = tokio::time::timeout(Duration::from_secs(20), store.shutdown());
    stopping.await?;
    Ok(())
}

/// Only the leader compacts, and all members have the result.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_compacts_by_itself() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = members(dir.path(), 3).into_iter().map(|config| Config {
        auto_compaction: Some(AutoCompaction::Periodic(200)),
        ..config
    });
    let stores = open(configs.collect()).await?;
    for number in 0..10 {
        stores[0].put(put("k", &number.to_string())).await?;
    }
    let old = RangeRequest {
        key: Bytes::from_static(b"k"),
        revision: 3,
        serializable: true,
        ..RangeRequest::default()
    };
    for store in &stores {
        while store.range(old.clone()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refused = store.range(old.clone()).await.err();
        assert_eq!(refused, Some(Error::State(StateError::Compacted)));
    }
    for store in stores {
        store.shutdown().await;
    }
    Ok(())
}
