//! Locks and elections of programs that embed a member, alone and beside etcd's clients.

use std::time::Duration;

use futures_util::FutureExt;
use keelson_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};
use keelson_proto::v3electionpb::election_client::ElectionClient;
use keelson_proto::v3electionpb::{LeaderRequest, ResignRequest};
use keelson_proto::v3lockpb::lock_client::LockClient;
use keelson_proto::v3lockpb::{LockRequest, UnlockRequest};
use keelson_store::{Error, Lease, Store};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::embedded::{members, open};
use crate::leases::{LONG, alone};

/// The number of keys in a queue.
async fn waiting(store: &Store, name: &str) -> anyhow::Result<i64> {
    let request = RangeRequest {
        key: format!("{name}/").into(),
        range_end: format!("{name}0").into(),
        count_only: true,
        ..RangeRequest::default()
    };
    Ok(store.range(request).await?.count)
}

async fn until_waiting(store: &Store, name: &str, count: i64) -> anyhow::Result<()> {
    let reached = async {
        while waiting(store, name).await? != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    timeout(LONG, reached).await?
}

/// A call that waits for the lock `l`, in the queue as the last of that many.
async fn waits(store: &Store, count: i64) -> anyhow::Result<JoinHandle<Result<i64, Error>>> {
    let (own, lease) = (store.clone(), store.lease(60).await?);
    let call = tokio::spawn(async move {
        let lock = own.lock("l", &lease).await?;
        let revision = lock.revision();
        lock.unlock().await?;
        Ok(revision)
    });
    until_waiting(store, "l", count).await?;
    Ok(call)
}

async fn revoke(store: &Store, lease: &Lease) -> anyhow::Result<()> {
    store
        .lease_revoke(LeaseRevokeRequest { id: lease.id() })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_hold_a_lock_in_turn_with_rising_tokens() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(members(dir.path(), 3)).await?;
    let lease = stores[0].lease(60).await?;
    let lock = stores[0].lock("l", &lease).await?;
    assert_eq!(*lock.key(), format!("l/{:x}", lease.id()));
    let second = waits(&stores[1], 2).await?;
    let third = waits(&stores[2], 3).await?;
    assert!(lock.is_held() && !second.is_finished() && !third.is_finished());
    assert!(lock.lost().now_or_never().is_none());
    let first = lock.revision();
    lock.unlock().await?;
    let second = timeout(LONG, second).await???;
    let third = timeout(LONG, third).await???;
    assert!(first < second && second < third);
    assert_eq!(waiting(&stores[0], "l").await?, 0);
    for store in &stores {
        store.shutdown().await;
    }
    let stopped = stores[0].lock("l", &lease).await;
    assert!(stopped.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_or_a_lock_that_is_dropped_does_not_hold_up_the_queue() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    let (first, dropped) = (store.lease(60).await?, store.lease(60).await?);
    let lock = store.lock("l", &first).await?;
    let mut wait = Box::pin(store.lock("l", &dropped));
    assert!(wait.as_mut().now_or_never().is_none());
    until_waiting(&store, "l", 2).await?;
    let last = waits(&store, 3).await?;
    drop(wait);
    until_waiting(&store, "l", 2).await?;
    drop(lock);
    timeout(LONG, last).await???;
    assert_eq!(waiting(&store, "l").await?, 0);
    assert!(first.is_alive() && dropped.is_alive());
    store.shutdown().await;
    Ok(())
}

/// The other wait ended as if its lease had expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_dropped_does_not_end_another_one_of_its_lease() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    let (first, shared) = (store.lease(60).await?, store.lease(60).await?);
    let lock = store.lock("l", &first).await?;
    let mut waits = Box::pin(store.lock("l", &shared));
    assert!(waits.as_mut().now_or_never().is_none());
    until_waiting(&store, "l", 2).await?;
    let read = || {
        store.range(RangeRequest {
            key: format!("l/{:x}", shared.id()).into(),
            ..RangeRequest::default()
        })
    };
    let created = read().await?.kvs[0].create_revision;
    let mut dropped = Box::pin(store.lock("l", &shared));
    let put_again = async {
        while read().await?.kvs[0].version != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, Error>(())
    };
    tokio::select! {
        _ = &mut dropped => anyhow::bail!("the lock is held"),
        put = timeout(LONG, put_again) => put??,
    }
    drop(dropped);
    let replaced = async {
        while read()
            .await?
            .kvs
            .first()
            .is_none_or(|own| own.create_revision == created)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, Error>(())
    };
    tokio::select! {
        ended = &mut waits => anyhow::bail!("the wait has ended: {:?}", ended.err()),
        replaced = timeout(LONG, replaced) => replaced??,
    }
    lock.unlock().await?;
    let lock = timeout(LONG, waits).await??;
    assert!(lock.is_held() && created < lock.revision());
    lock.unlock().await?;
    store.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_lease_ends_hold_and_wait() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    let (holds, waits) = (store.lease(60).await?, store.lease(60).await?);
    let lock = store.lock("l", &holds).await?;
    let revoked = async {
        until_waiting(&store, "l", 2).await?;
        revoke(&store, &waits).await
    };
    let (waited, revoked) = timeout(LONG, async {
        tokio::join!(store.lock("l", &waits), revoked)
    })
    .await?;
    revoked?;
    assert_eq!(waited.err(), Some(Error::SessionExpired));
    // At once, and not with the next renewal.
    revoke(&store, &holds).await?;
    timeout(Duration::from_secs(15), lock.lost()).await?;
    assert_eq!(lock.unlock().await, Err(Error::SessionExpired));
    let late = store.lock("l", &holds).await;
    assert_eq!(late.err(), Some(Error::SessionExpired));
    // The stop of the member ends holds and waits as well.
    let lease = store.lease(60).await?;
    let lock = store.lock("l", &lease).await?;
    let other = store.lease(60).await?;
    let mut wait = Box::pin(store.lock("l", &other));
    assert!(wait.as_mut().now_or_never().is_none());
    until_waiting(&store, "l", 2).await?;
    store.shutdown().await;
    assert_eq!(timeout(LONG, wait).await?.err(), Some(Error::Stopped));
    timeout(LONG, lock.lost()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_and_a_client_of_etcd_contend_for_a_lock() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    let (url, _) = crate::metrics::serve(store.clone()).await?;
    let mut client = LockClient::connect(url).await?;
    let grant = LeaseGrantRequest { ttl: 60, id: 7 };
    store.lease_grant(grant).await?;
    let request = || LockRequest {
        name: "l".into(),
        lease: 7,
    };
    let held = client.lock(request()).await?.into_inner();
    assert_eq!(held.key, "l/7");
    let own = waits(&store, 2).await?;
    let key = held.key;
    client.unlock(UnlockRequest { key }).await?;
    let own = timeout(LONG, own).await???;
    assert!(held.header.expect("a header").revision < own);
    let lease = store.lease(60).await?;
    let lock = store.lock("l", &lease).await?;
    let queued = tokio::spawn(async move { client.lock(request()).await });
    until_waiting(&store, "l", 2).await?;
    lock.unlock().await?;
    assert_eq!(timeout(LONG, queued).await???.into_inner().key, "l/7");
    store.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_elected_proclaim_and_resign() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = alone(dir.path()).await?;
    let mut leaders = store.observe_election("e")?;
    assert!(store.election_leader("e").await?.is_none());
    let (first, second) = (store.lease(60).await?, store.lease(60).await?);
    let mut leader = store.campaign("e", "a", &first).await?;
    assert_eq!(timeout(LONG, leaders.next()).await??.value, "a");
    leader.proclaim("b").await?;
    assert_eq!(timeout(LONG, leaders.next()).await??.value, "b");
    let (url, _) = crate::metrics::serve(store.clone()).await?;
    let mut client = ElectionClient::connect(url).await?;
    let name = LeaderRequest { name: "e".into() };
    let seen = client.leader(name).await?.into_inner().kv.expect("a pair");
    assert_eq!(
        (&seen.key, seen.create_revision),
        (leader.key(), leader.revision())
    );
    let mut next = Box::pin(store.campaign("e", "c", &second));
    assert!(next.as_mut().now_or_never().is_none());
    until_waiting(&store, "e", 2).await?;
    // A leader that is dropped resigns, also after it has proclaimed a value.
    drop(leader);
    let leader = timeout(LONG, next).await??;
    assert_eq!(timeout(LONG, leaders.next()).await??.value, "c");
    let resign = ResignRequest {
        leader: Some(keelson_proto::v3electionpb::LeaderKey {
            name: "e".into(),
            key: leader.key().clone(),
            rev: leader.revision(),
            lease: second.id(),
        }),
    };
    client.resign(resign).await?;
    timeout(LONG, leader.lost()).await?;
    assert_eq!(leader.resign().await, Err(Error::SessionExpired));
    store.shutdown().await;
    Ok(())
}
