//! A member whose state differs: it is found, serves no client, and heals while the others serve.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use keelson_core::engine::{Table, WriteBatch};
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::KeyValue;
use keelson_store::config::{AuditPolicy, CorruptionChecks};
use keelson_store::edge::Backend;
use keelson_store::internals::engine::{StorageEngine, open as open_engine};
use keelson_store::{Config, Error, StateError, Store};
use prost::Message;
use tokio::time::timeout;

use super::membership::shut_down;
use super::{members, open, open_one, put};

/// A timeout that only a hang exceeds.
const LIMIT: Duration = Duration::from_secs(60);
const CLIENTS: usize = 64;
const PUTS: usize = 8;
const DAMAGED: &str = "k";

/// Changes the row of `DAMAGED` in a stopped member's engine. With another version there, the next
/// put of the key is applied differently.
fn damage(data_dir: &Path, change: impl Fn(&mut KeyValue)) -> anyhow::Result<()> {
    let snap = data_dir.join("member/snap");
    let current = std::fs::read_to_string(snap.join("CURRENT"))?;
    let generation = current.split_ascii_whitespace().next().expect("a name");
    let engine = open_engine(StorageEngine::DEFAULT, &snap.join(generation), 4 << 30)?;
    let mut batch = WriteBatch::default();
    let (from, to) = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    engine.range(Table::Key, from, to, &mut |row, content| {
        let mut kv = KeyValue::decode(content).expect("a pair");
        if kv.key == DAMAGED {
            change(&mut kv);
            let row = Bytes::copy_from_slice(row);
            batch.put(Table::Key, row, kv.encode_to_vec());
        }
        true
    })?;
    assert_eq!(batch.changes.len(), 1);
    Ok(engine.write(&batch)?)
}

fn serializable(key: &str) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        serializable: true,
        ..RangeRequest::default()
    }
}

async fn until(condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(timeout(LIMIT, met).await?)
}

/// Clients write through these members, and all of their requests succeed.
async fn write(stores: &[Store]) -> Result<(), Error> {
    let client = |number: usize| async move {
        let store = &stores[number % stores.len()];
        for _ in 0..PUTS {
            let key = format!("c{number}");
            let key = if number == 0 { DAMAGED } else { &key };
            store.put(put(key, "v")).await?;
        }
        Ok(())
    };
    join_all((0..CLIENTS).map(client))
        .await
        .into_iter()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_differs_heals_while_the_others_serve() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let audited = |config| Config {
        corruption: CorruptionChecks {
            audits: AuditPolicy {
                entries: 200,
                quiet_ms: 300,
            },
            ..CorruptionChecks::default()
        },
        ..config
    };
    let configs: Vec<_> = members(dir.path(), 5).into_iter().map(audited).collect();
    let mut stores = open(configs.clone()).await?;
    stores[0].put(put(DAMAGED, "v")).await?;
    let told = |store: &Store| store.status().raft_applied_index;
    let last = stores.pop().expect("five");
    until(|| told(&stores[0]) <= told(&last)).await?;
    last.shutdown().await;
    drop(last);
    damage(&configs[4].data_dir, |kv| kv.version += 100)?;
    let last = open_one(configs[4].clone()).await?;
    last.ready().await;
    let healed = AtomicBool::new(false);
    let writing = async {
        while !healed.load(Ordering::Relaxed) {
            write(&stores).await?;
        }
        Ok::<_, Error>(())
    };
    let healing = async {
        until(|| !last.status().errors.is_empty()).await?;
        let refused = last.range(serializable(DAMAGED)).await;
        let expected = Err(Error::State(StateError::Corrupt));
        let already = last.status().errors.is_empty();
        assert!(already || refused == expected, "{refused:?}");
        let ended = until(|| last.status().errors.is_empty()).await;
        healed.store(true, Ordering::Relaxed);
        ended
    };
    let (written, ended) = tokio::join!(writing, healing);
    written?;
    ended?;
    stores.push(last);
    stores[0].put(put("end", "")).await?;
    for store in &stores {
        timeout(LIMIT, store.read_index()).await??;
    }
    let hashes = stores.iter().map(|store| store.hash_kv(0));
    let hashes = join_all(hashes).await.into_iter();
    let mut hashes = hashes
        .map(|hash| hash.map(|hash| hash.hash))
        .collect::<Result<Vec<_>, _>>()?;
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{hashes:x?}");
    shut_down(&stores).await;
    Ok(())
}

/// No entry has touched the pair: only a comparison of all pairs shows it.
#[tokio::test(flavor = "multi_thread")]
async fn etcds_checks_find_a_pair_that_differs_on_the_disk() -> anyhow::Result<()> {
    let periodic = CorruptionChecks {
        periodic_ms: 100,
        ..CorruptionChecks::default()
    };
    find_on_the_disk(periodic).await
}

#[tokio::test(flavor = "multi_thread")]
async fn etcds_check_after_a_compaction_finds_it_as_well() -> anyhow::Result<()> {
    let after_compactions = CorruptionChecks {
        compactions_ms: 100,
        ..CorruptionChecks::default()
    };
    find_on_the_disk(after_compactions).await
}

async fn find_on_the_disk(corruption: CorruptionChecks) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let checked = |config| Config {
        corruption,
        ..config
    };
    let mut configs: Vec<_> = members(dir.path(), 3).into_iter().map(checked).collect();
    let mut stores = open(configs.clone()).await?;
    stores[0].put(put(DAMAGED, "v")).await?;
    let last = stores.pop().expect("three");
    let told = |store: &Store| store.status().raft_applied_index;
    until(|| told(&stores[0]) <= told(&last)).await?;
    last.shutdown().await;
    drop(last);
    let id = |store: &Store| store.member_id();
    damage(&configs[2].data_dir, |kv| {
        kv.value = Bytes::from_static(b"w")
    })?;
    configs[2].corruption.at_start = true;
    let refused = open_one(configs[2].clone()).await;
    let text = refused.err().expect("it differs").to_string();
    assert!(
        text.contains("found data inconsistency with peers"),
        "{text}"
    );
    configs[2].corruption.at_start = false;
    let last = open_one(configs[2].clone()).await?;
    last.ready().await;
    if corruption.compactions_ms != 0 {
        let compaction = CompactionRequest {
            revision: 2,
            physical: true,
        };
        stores[0].compact(compaction).await?;
    }
    until(|| !alarms(&stores[0]).is_empty()).await?;
    assert_eq!(
        alarms(&stores[0]),
        [(id(&last).0, AlarmType::Corrupt as i32)]
    );
    stores.push(last);
    shut_down(&stores).await;
    Ok(())
}

fn alarms(store: &Store) -> Vec<(u64, i32)> {
    let alarms = Backend::alarms(store).into_iter();
    alarms.map(|alarm| (alarm.member_id, alarm.alarm)).collect()
}
