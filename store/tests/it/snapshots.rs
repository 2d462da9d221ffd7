//! Snapshots: what a file has is what the member had, of one revision, and a restored member has it
//! again.

use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::{TreeRequest, auth_change::Op};
use keelson_store::auth::Caller;
use keelson_store::snapshot::{self, RestoreOptions, SnapshotFile};
use keelson_store::{Config, Error, StateError, Store};

use crate::embedded::{members, open, open_one};

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
        ..PutRequest::default()
    }
}

fn all() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..RangeRequest::default()
    }
}

/// A member with something in every table.
async fn filled(config: Config) -> anyhow::Result<Store> {
    let store = open_one(config).await?;
    store.ready().await;
    let grant = LeaseGrantRequest { ttl: 3600, id: 77 };
    store.lease_grant(grant).await?;
    for number in 0..300 {
        let lease = if number % 10 == 0 { 77 } else { 0 };
        store
            .put(put(&format!("k{}", number % 200), "v", lease))
            .await?;
    }
    let delete = DeleteRangeRequest {
        key: Bytes::from_static(b"k5"),
        range_end: Bytes::from_static(b"k6"),
        ..DeleteRangeRequest::default()
    };
    store.delete_range(delete).await?;
    let compaction = CompactionRequest {
        revision: store.status().header.map_or(0, |header| header.revision) - 5,
        physical: true,
    };
    store.compact(compaction).await?;
    store.put(put("large", &"x".repeat(100_000), 0)).await?;
    let alarm = AlarmRequest {
        action: alarm_request::AlarmAction::Activate.into(),
        member_id: 5,
        alarm: AlarmType::Nospace.into(),
    };
    store.alarm(alarm).await?;
    let user = AuthUserAddRequest {
        name: "alice".to_owned(),
        hashed_password: "hash".to_owned(),
        ..AuthUserAddRequest::default()
    };
    let op = Some(Op::UserAdd(user));
    store
        .auth_change(keelson_proto::internal::AuthChange { op })
        .await?;
    let tree = TreeRequest {
        path: Bytes::from_static(b"/1/old"),
        value: Bytes::from_static(b"v2"),
        ..TreeRequest::default()
    };
    store
        .tree_change(tree)
        .await
        .map_err(|_| anyhow::anyhow!("a v2 key"))?;
    Ok(store)
}

/// The file of a snapshot, after its sizes are checked.
async fn save(store: &Store, path: &Path) -> anyhow::Result<()> {
    let mut stream = Box::pin(store.snapshot());
    let (mut file, mut left) = (Vec::new(), None);
    while let Some(part) = stream.next().await {
        let part = part?;
        if let Some(left) = left {
            assert_eq!(
                part.remaining_bytes + part.blob.len() as u64,
                left + sum_of(&part)
            );
        }
        left = Some(part.remaining_bytes);
        file.extend_from_slice(&part.blob);
    }
    assert_eq!(left, Some(0));
    std::fs::write(path, file)?;
    Ok(())
}

/// The checksum's bytes do not count.
fn sum_of(part: &SnapshotResponse) -> u64 {
    if part.blob.len() == 32 { 32 } else { 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_member_has_what_the_snapshot_had() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = filled(Config::single("old", dir.path().join("old"))).await?;
    let path = dir.path().join("s.db");
    save(&store, &path).await?;
    let (expected, kvs) = (store.hash_kv(0).await?, store.range(all()).await?.kvs);
    store.shutdown().await;

    let file = SnapshotFile::open(&path)?;
    file.check_sum()?;
    let hash = snapshot::hash_kv(&file, 0)?;
    assert_eq!(hash.hash, expected.hash);
    assert_eq!(hash.compact_revision, expected.compact_revision);
    for bump_revision in [0, 1000] {
        let config = Config::single("new", dir.path().join(format!("new{bump_revision}")));
        let options = RestoreOptions {
            bump_revision,
            mark_compacted: 0 < bump_revision,
        };
        let restored = snapshot::restore(&file, &config, options)?;
        assert_eq!(
            restored.revision,
            expected.hash_revision + bump_revision as i64
        );
        assert_eq!(restored.dropped.len(), 1);
        assert!(
            snapshot::restore(&file, &config, options).is_err(),
            "it is used"
        );
        let store = open_one(config).await?;
        store.ready().await;
        assert_eq!(store.range(all()).await?.kvs, kvs);
        if bump_revision == 0 {
            assert_eq!(store.hash_kv(0).await?.hash, expected.hash);
        }
        check_rest(&store, restored.revision).await?;
        store.shutdown().await;
    }
    Ok(())
}

/// Ends the alarm of `filled`.
async fn disarm(store: &Store) -> anyhow::Result<()> {
    let mut disarm = AlarmRequest {
        action: alarm_request::AlarmAction::Deactivate.into(),
        ..AlarmRequest::default()
    };
    (disarm.member_id, disarm.alarm) = (5, AlarmType::Nospace.into());
    store.alarm(disarm).await?;
    Ok(())
}

async fn check_rest(store: &Store, revision: i64) -> anyhow::Result<()> {
    let lease = LeaseTimeToLiveRequest { id: 77, keys: true };
    let lease = store.lease_time_to_live(lease).await?;
    assert_eq!(lease.granted_ttl, 3600);
    assert!(10 < lease.keys.len());
    let (node, index) = store.tree_get(b"/1/old", false)?;
    assert_eq!(node.value.as_deref(), Some(&b"v2"[..]));
    assert!(node.modified <= index);
    let alarms = store.alarm(AlarmRequest::default()).await?.alarms;
    assert_eq!(alarms.len(), 1);
    disarm(store).await?;
    let header = store.put(put("after", "v", 0)).await?.header;
    assert_eq!(header.map(|header| header.revision), Some(revision + 1));
    Ok(())
}

/// The clients that write while snapshots are taken.
const WRITERS: usize = 64;

/// Both keys of a client's pair are written in one transaction.
fn pair(writer: usize, value: i64) -> TxnRequest {
    let put = |key: &str| RequestOp {
        request: Some(request_op::Request::RequestPut(put(
            &format!("pair/{writer:02}/{key}"),
            &value.to_string(),
            0,
        ))),
    };
    TxnRequest {
        success: vec![put("a"), put("b")],
        ..TxnRequest::default()
    }
}

/// Writes 1, 2, 3 and so on into its pair; the first client compacts as well.
async fn write_pairs(
    store: Store,
    writer: usize,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<()> {
    for value in 1.. {
        store.txn(pair(writer, value)).await?;
        if writer == 0 && value % 20 == 0 {
            let revision = store.hash_kv(0).await?.hash_revision;
            let physical = false;
            store
                .compact(CompactionRequest { revision, physical })
                .await?;
        }
        if *stopped.borrow() {
            break;
        }
    }
    Ok(())
}

/// Nothing but pairs was ever written, each value by one revision: so the values that are there are
/// those of one revision only if they add up to it.
fn check_pairs(kvs: &[keelson_proto::mvccpb::KeyValue], revision: i64) -> anyhow::Result<()> {
    let mut sum = 1;
    for pair in kvs.chunks(2) {
        assert_eq!(pair.len(), 2);
        assert_eq!(pair[0].value, pair[1].value);
        assert_eq!(pair[0].mod_revision, pair[1].mod_revision);
        sum += std::str::from_utf8(&pair[0].value)?.parse::<i64>()?;
    }
    assert_eq!(sum, revision);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_under_64_writers_and_compactions_is_of_one_revision() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(Config::single("one", dir.path().join("one"))).await?;
    store.ready().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_pairs(store.clone(), writer, stopped.clone()));
    }
    let mut last = 0;
    for number in 0..4 {
        let path = dir.path().join(format!("{number}.db"));
        save(&store, &path).await?;
        let file = SnapshotFile::open(&path)?;
        file.check_sum()?;
        let hash = snapshot::hash_kv(&file, 0)?;
        assert!(last < hash.hash_revision, "nothing was written meanwhile");
        last = hash.hash_revision;
        let config = Config::single("new", dir.path().join(number.to_string()));
        let options = RestoreOptions {
            bump_revision: 0,
            mark_compacted: false,
        };
        snapshot::restore(&file, &config, options)?;
        let restored = open_one(config).await?;
        restored.ready().await;
        assert_eq!(restored.hash_kv(0).await?.hash, hash.hash);
        check_pairs(&restored.range(all()).await?.kvs, hash.hash_revision)?;
        restored.shutdown().await;
    }
    stop.send(true)?;
    while let Some(written) = writers.join_next().await {
        written??;
    }
    store.shutdown().await;
    Ok(())
}

/// A disaster's end: each member is restored by itself, from the same file.
#[tokio::test(flavor = "multi_thread")]
async fn three_restored_members_are_one_cluster_with_its_users() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let old = filled(Config::single("old", dir.path().join("old"))).await?;
    for op in [
        Op::UserAdd(AuthUserAddRequest {
            name: "root".to_owned(),
            hashed_password: "hash".to_owned(),
            ..AuthUserAddRequest::default()
        }),
        Op::UserGrantRole(AuthUserGrantRoleRequest {
            user: "root".to_owned(),
            role: "root".to_owned(),
        }),
        Op::Enable(keelson_proto::internal::AuthEnable {
            secret: Bytes::from_static(b"the key of the tokens"),
        }),
    ] {
        let op = Some(op);
        old.auth_change(keelson_proto::internal::AuthChange { op })
            .await?;
    }
    let path = dir.path().join("s.db");
    save(&old, &path).await?;
    old.shutdown().await;
    let content = std::fs::read(&path)?;
    let has_key = content
        .windows(21)
        .any(|part| part == b"the key of the tokens");
    assert!(!has_key, "the key of tokens is in the file");

    let file = SnapshotFile::open(&path)?;
    let configs = members(dir.path(), 3);
    let options = RestoreOptions {
        bump_revision: 1000,
        mark_compacted: true,
    };
    for config in &configs {
        snapshot::restore(&file, config, options)?;
    }
    let stores = open(configs).await?;
    disarm(&stores[0]).await?;
    stores[0].put(put("after", "v", 0)).await?;
    let mut hashes = Vec::new();
    for store in &stores {
        let refused = store.acting_as(Caller::Anonymous).range(all()).await;
        assert_eq!(refused.err(), Some(Error::State(StateError::UserEmpty)));
        store.read_index().await?;
        let (node, index) = store.tree_get(b"/1/old", false)?;
        hashes.push((store.hash_kv(0).await?.hash, node.modified, index));
    }
    assert!(hashes.iter().all(|one| *one == hashes[0]), "{hashes:?}");
    for store in stores {
        store.shutdown().await;
    }
    Ok(())
}

/// Each holds compactions back, so that they are few.
#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_snapshot_is_refused_until_one_of_four_ends() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(Config::single("one", dir.path().join("one"))).await?;
    store.ready().await;
    // More than waits for a client.
    for number in 0..20 {
        let value = "x".repeat(100_000);
        store.put(put(&format!("k{number}"), &value, 0)).await?;
    }
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = Box::pin(store.snapshot());
        assert!(matches!(stream.next().await, Some(Ok(_))));
        streams.push(stream);
    }
    let refused = Box::pin(store.snapshot()).next().await;
    assert!(
        matches!(refused, Some(Err(Error::TooManyRequests))),
        "{refused:?}"
    );
    assert_eq!(store.hash().await.err(), Some(Error::TooManyRequests));
    streams.pop();
    while store.hash().await.is_err() {
        tokio::task::yield_now().await;
    }
    drop(streams);
    store.shutdown().await;
    Ok(())
}
