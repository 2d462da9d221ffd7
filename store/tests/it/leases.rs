//! Leases of embedded members.

use std::cell::Cell;
use std::time::Duration;

use keelson_proto::etcdserverpb::*;
use keelson_store::{Config, Error, Store};

use crate::embedded::{members, open, open_one};

/// Far longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A time to live in seconds, of which a renewal or a put needs only a small part.
const SHORT: i64 = 3;

fn attached(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        lease,
        ..PutRequest::default()
    }
}

async fn granted(store: &Store, id: i64, ttl: i64) -> anyhow::Result<LeaseGrantResponse> {
    Ok(store.lease_grant(LeaseGrantRequest { id, ttl }).await?)
}

async fn times(store: &Store, id: i64) -> anyhow::Result<LeaseTimeToLiveResponse> {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    Ok(store.lease_time_to_live(request).await?)
}

/// A single member whose leases may be short.
pub(crate) async fn alone(dir: &std::path::Path) -> anyhow::Result<Store> {
    let config = Config {
        heartbeat_ms: 20,
        election_ms: 200,
        ..Config::single("alone", dir)
    };
    let store = open_one(config).await?;
    store.ready().await;
    Ok(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_grants_renews_and_revokes_leases() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(members(dir.path(), 3)).await?;
    for (store, id) in stores.iter().zip(1..) {
        let lease = granted(store, id, 100).await?;
        assert_eq!((lease.id, lease.ttl), (id, 100));
        store.put(attached(&format!("key-{id}"), id)).await?;
        for other in &stores {
            let renewed = other.lease_keep_alive(id).await?;
            assert_eq!((renewed.id, renewed.ttl), (id, 100));
            assert!(0 < renewed.header.expect("a header").revision);
            let times = times(other, id).await?;
            assert_eq!(times.keys, [format!("key-{id}")]);
            assert!((50..=100).contains(&times.ttl) && times.granted_ttl == 100);
        }
    }
    for (store, id) in stores.iter().zip([2, 3, 1]) {
        store.lease_revoke(LeaseRevokeRequest { id }).await?;
        assert!(store.get(format!("key-{id}")).await?.is_none());
    }
    for store in &stores {
        assert_eq!(store.lease_keep_alive(1).await?.ttl, 0);
        assert_eq!(times(store, 1).await?.ttl, -1);
    }
    for store in &stores {
        store.shutdown().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_without_renewals_expires_and_takes_its_keys() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    let least = granted(&store, 0, 0).await?;
    assert!(0 < least.id);
    assert_eq!(least.ttl, store.lease_ttl_min());
    let kept = store.lease(100).await?;
    store.put(attached("kept", kept.id())).await?;
    let mut watch = store.watch(WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        start_revision: 3,
        ..WatchCreateRequest::default()
    });
    assert!(watch.next().await?.created);
    // Granted just before: it must not expire until then.
    let lease = granted(&store, 0, SHORT).await?;
    store.put(attached("key", lease.id)).await?;
    assert_eq!(watch.next().await?.events.len(), 1);
    let expired = tokio::time::timeout(LONG, watch.next()).await??;
    let event = expired.events.first().expect("the deletion");
    assert_eq!(event.kv.as_ref().expect("a pair").key, "key");
    assert!(store.get("kept").await?.is_some() && kept.is_alive());
    let left = store.leases()?.leases.into_iter().map(|lease| lease.id);
    assert_eq!(left.collect::<Vec<_>>(), [kept.id()]);
    kept.revoke().await?;
    assert!(store.get("kept").await?.is_none());
    store.shutdown().await;
    let stopped = store.lease_keep_alive(1).await;
    assert!(matches!(stopped, Err(Error::Stopped)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_held_is_renewed_and_its_loss_is_reported() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    let kept = store.lease(SHORT).await?;
    let beside = granted(&store, 0, 2 * SHORT).await?;
    // The other lease, which is not renewed, expires later than this one would have.
    let gone = async {
        while 0 < times(&store, beside.id).await?.granted_ttl {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LONG, gone).await??;
    assert!(kept.is_alive());
    let request = LeaseRevokeRequest { id: kept.id() };
    store.lease_revoke(request).await?;
    tokio::time::timeout(LONG, kept.lost()).await?;
    assert!(!kept.is_alive());
    store.shutdown().await;
    Ok(())
}

/// The reply was the error "not a primary lessor" in etcd (#21671).
#[tokio::test(flavor = "multi_thread")]
async fn renewals_go_on_while_leadership_moves() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(members(dir.path(), 3)).await?;
    granted(&stores[0], 7, 100).await?;
    let leader = || stores[0].status().leader;
    let (before, moved) = (leader(), Cell::new(false));
    let renewing = async {
        let mut renewals = 0;
        while !moved.get() || renewals < 60 {
            let store = &stores[renewals % stores.len()];
            assert_eq!(store.lease_keep_alive(7).await?.ttl, 100);
            renewals += 1;
        }
        anyhow::Ok(())
    };
    let moving = async {
        while leader() == before {
            for store in &stores {
                store.transfer_leadership().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        moved.set(true);
    };
    let moving = async { tokio::time::timeout(LONG, moving).await.expect("it moves") };
    let (renewed, ()) = tokio::join!(renewing, moving);
    renewed?;
    for store in &stores {
        store.shutdown().await;
    }
    Ok(())
}

/// They are in the leader's memory alone, whichever member they are sent to.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_renewals_are_no_entries_of_the_log() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(members(dir.path(), 3)).await?;
    granted(&stores[0], 7, 100).await?;
    for store in &stores {
        let before = store.status().raft_index;
        for _ in 0..10 {
            let renewals = (0..100).map(|_| store.lease_keep_alive(7));
            for renewed in futures_util::future::join_all(renewals).await {
                assert_eq!(renewed?.ttl, 100);
            }
        }
        let entries = store.status().raft_index - before;
        // The cluster's version, or an election on a busy machine.
        assert!(entries < 10, "{entries} entries");
    }
    for store in &stores {
        store.shutdown().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_expired_leases_go_in_a_few_entries() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        heartbeat_ms: 20,
        election_ms: 200,
        unsafe_no_fsync: true,
        ..Config::single("alone", dir.path())
    };
    let store = open_one(config).await?;
    store.ready().await;
    let before = store.status().raft_index;
    let grants = (1..=3_000).map(|id| store.lease_grant(LeaseGrantRequest { id, ttl: 2 }));
    for granted in futures_util::future::join_all(grants).await {
        granted?;
    }
    let gone = async {
        while !store.leases().is_ok_and(|left| !left.leases.is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await?;
    let expiries = (store.status().raft_index - before).saturating_sub(3_000);
    assert!(expiries < 300, "{expiries} entries besides the grants");
    store.shutdown().await;
    Ok(())
}

/// etcd answers such a renewal with a time of 0. Here they come as fast as the connections carry
/// them: each is answered, in order, and other requests pass.
#[tokio::test(flavor = "multi_thread")]
async fn renewals_of_unknown_leases_at_full_speed_hold_up_nothing() -> anyhow::Result<()> {
    use keelson_proto::etcdserverpb::lease_client::LeaseClient;
    const STREAMS: i64 = 8;
    const RENEWALS: i64 = 2_000;
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    granted(&store, 1, 100).await?;
    let (url, _) = crate::metrics::serve(store.clone()).await?;
    let streams = (0..STREAMS).map(|stream| {
        let url = url.clone();
        tokio::spawn(async move {
            let ids = (0..RENEWALS).map(move |number| 1_000_000 * (stream + 1) + number);
            let requests = tokio_stream::iter(ids.clone().map(|id| LeaseKeepAliveRequest { id }));
            let mut client = LeaseClient::connect(url).await?;
            let mut answers = client.lease_keep_alive(requests).await?.into_inner();
            for id in ids {
                let answer = answers.message().await?;
                let answer = answer.map(|answer| (answer.id, answer.ttl));
                anyhow::ensure!(answer == Some((id, 0)), "{answer:?} for {id}");
            }
            anyhow::ensure!(answers.message().await?.is_none(), "one answer too many");
            Ok(())
        })
    });
    let streams: Vec<_> = streams.collect();
    while !streams.iter().all(|stream| stream.is_finished()) {
        assert_eq!(store.lease_keep_alive(1).await?.ttl, 100);
    }
    for stream in streams {
        stream.await??;
    }
    store.put(attached("key", 1)).await?;
    store.shutdown().await;
    Ok(())
}
