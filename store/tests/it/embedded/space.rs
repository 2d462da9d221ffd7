//! The space quota and the NOSPACE alarm.

use std::time::Duration;

use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::TreeRequest;
use keelson_store::{Config, Error, StateError, Store};

use super::{open_one, put};

const FULL: Error = Error::State(StateError::NoSpace);
const QUOTA_BYTES: u64 = 1 << 20;

fn config(dir: &std::path::Path, quota_bytes: u64) -> Config {
    Config {
        quota_bytes,
        unsafe_no_fsync: true,
        ..Config::single("alone", dir)
    }
}

fn write_txn(op: Request) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp { request: Some(op) }],
        ..TxnRequest::default()
    }
}

fn grant() -> LeaseGrantRequest {
    LeaseGrantRequest { id: 7, ttl: 600 }
}

fn delete(from: &str, to: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: from.to_owned().into(),
        range_end: to.to_owned().into(),
        ..DeleteRangeRequest::default()
    }
}

async fn alarms(store: &Store) -> Result<usize, Error> {
    let list = AlarmRequest::default();
    Ok(store.alarm(list).await?.alarms.len())
}

/// Writes until there is no room.
async fn fill(store: &Store) -> anyhow::Result<()> {
    let value = "v".repeat(10_000);
    for number in 0..QUOTA_BYTES {
        match store.put(put(&format!("k{number}"), &value)).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, FULL);
                return Ok(());
            }
        }
    }
    anyhow::bail!("the quota is none")
}

/// Waits until the alarm is gone, and there is room.
async fn until_room(store: &Store) -> anyhow::Result<()> {
    while 0 < alarms(store).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.put(put("after", "all")).await?;
    Ok(())
}

/// The revision and everything below is compacted.
async fn compact(store: &Store) -> anyhow::Result<()> {
    let revision = store.status().header.map_or(0, |header| header.revision);
    let physical = true;
    store
        .compact(CompactionRequest { revision, physical })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_adds_data_is_refused_until_there_is_room_again() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(config(dir.path(), QUOTA_BYTES)).await?;
    store.ready().await;
    store
        .lease_grant(LeaseGrantRequest { id: 9, ttl: 600 })
        .await?;
    fill(&store).await?;
    assert_eq!(alarms(&store).await?, 1);
    // A refusal costs no entry of the log once the alarm is raised.
    let before = store.status().raft_index;
    let nested = write_txn(Request::RequestTxn(write_txn(Request::RequestPut(put(
        "a", "b",
    )))));
    assert_eq!(
        store.put(put("large", &"v".repeat(1_000_000))).await,
        Err(FULL)
    );
    assert_eq!(store.status().raft_index, before);
    assert_eq!(store.put(put("small", "v")).await, Err(FULL));
    assert_eq!(store.txn(nested).await, Err(FULL));
    assert_eq!(store.lease_grant(grant()).await.map(drop), Err(FULL));

    assert!(store.get("k0").await?.is_some());
    let only_deletes = write_txn(Request::RequestDeleteRange(delete("k0", "")));
    assert_eq!(store.txn(only_deletes).await?.responses.len(), 1);
    store.lease_revoke(LeaseRevokeRequest { id: 9 }).await?;
    let tree = TreeRequest {
        path: "/1/v2".into(),
        ..TreeRequest::default()
    };
    assert!(store.tree_change(tree).await.is_ok(), "the quota is v3's");
    assert!(store.delete_range(delete("k", "l")).await?.deleted > 50);
    compact(&store).await?;
    until_room(&store).await?;
    assert!(store.lease_grant(grant()).await.is_ok());
    store.shutdown().await;
    Ok(())
}

/// etcd#20753.
#[tokio::test(flavor = "multi_thread")]
async fn a_larger_quota_ends_the_alarm_and_disarm_lasts_until_a_request_does_not_fit()
-> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(config(dir.path(), QUOTA_BYTES)).await?;
    store.ready().await;
    fill(&store).await?;
    let disarm = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        member_id: store.member_id().0,
        alarm: AlarmType::Nospace.into(),
    };
    assert_eq!(store.alarm(disarm).await?.alarms.len(), 1);
    assert_eq!(alarms(&store).await?, 0);
    fill(&store).await?;
    assert_eq!(alarms(&store).await?, 1);
    store.shutdown().await;
    drop(store);

    let store = open_one(config(dir.path(), QUOTA_BYTES)).await?;
    store.ready().await;
    assert_eq!(alarms(&store).await?, 1);
    assert_eq!(
        store.put(put("large", &"v".repeat(200_000))).await,
        Err(FULL)
    );
    store.shutdown().await;
    drop(store);

    let store = open_one(config(dir.path(), 2 * QUOTA_BYTES)).await?;
    store.ready().await;
    until_room(&store).await?;
    store.shutdown().await;
    Ok(())
}
