//! A member whose state differs from that of the others.

use std::ops::Bound;

use bytes::Bytes;
use keelson_core::engine::{Table, WriteBatch};
use keelson_proto::mvccpb::KeyValue;
use keelson_store::internals::engine::{StorageEngine, open as open_engine};
use prost::Message;

use super::*;

/// Written by no member of the fleet.
const DAMAGED: &[u8] = b"damaged";
const WRITERS: usize = 32;
/// The address space of the engine, in bytes.
const MAP_BYTES: u64 = 4 << 30;

/// A row is changed on the disk of one of five, and another one is killed. The comparison after
/// 4,096 entries finds the first, which serves no client until it has the leader's state. The
/// writers at the others see nothing of it.
#[tokio::test]
async fn a_member_that_differs_heals_while_another_one_is_dead() -> Result<()> {
    let ours = binary::ours()?;
    if ours.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let mut cluster = start(5).await?;
    let leader = cluster.leader().await?;
    let (wrong, dead) = ((leader + 1) % 5, (leader + 2) % 5);
    let urls = cluster.endpoints();
    put(&urls[leader]).await?;
    serves(&urls[wrong]).await?;
    cluster.members[wrong].terminate()?;
    cluster.members[wrong].stopped().await?;
    damage(&cluster, wrong)?;
    let before = cluster.members[wrong].log().len();
    cluster.members[wrong].start()?;
    cluster.wait_ready(LIMIT).await?;
    cluster.kill(dead);

    let others = (0..5).filter(|number| ![wrong, dead].contains(number));
    let others: Vec<_> = others.map(|number| urls[number].clone()).collect();
    let fleet = Fleet::start(&others, WRITERS, "differs/");
    let log = |cluster: &Cluster| cluster.members[wrong].log().split_off(before);
    let began = Instant::now();
    while !log(&cluster).contains("has the leader's state and serves again") {
        ensure!(began.elapsed() < LIMIT, "{}", log(&cluster));
        // There it is applied to another version. The first puts may come before the hash begins.
        put(&others[0]).await?;
        fleet.progress(200, LIMIT).await?;
    }
    println!("found and healed within {:?}", began.elapsed());
    serves(&urls[wrong]).await?;
    let ledger = fleet.stop().await;
    cluster.restart_all().await?;
    let verdict = verify::verify(&cluster, &ledger, "differs/").await?;
    ensure!(verdict.good(), "{}", verdict.violations());
    Ok(())
}

async fn put(url: &str) -> Result<()> {
    let request = PutRequest {
        key: Bytes::from_static(DAMAGED),
        value: Bytes::from_static(b"v"),
        ..PutRequest::default()
    };
    client::kv(url).await?.put(request).await?;
    Ok(())
}

/// A linearizable read there is answered, so it has applied what was written before.
async fn serves(url: &str) -> Result<()> {
    let request = RangeRequest {
        key: Bytes::from_static(DAMAGED),
        ..RangeRequest::default()
    };
    let range = client::kv(url).await?.range(request).await?.into_inner();
    ensure!(range.kvs.len() == 1, "{range:?}");
    Ok(())
}

/// Changes the version of a pair in the engine of a stopped member.
fn damage(cluster: &Cluster, number: usize) -> Result<()> {
    let snap = cluster.dir().join(&cluster.members[number].name);
    let snap = snap.join("member/snap");
    let current = std::fs::read_to_string(snap.join("CURRENT"))?;
    let generation = current.split_whitespace().next().context("no generation")?;
    let engine = open_engine(StorageEngine::DEFAULT, &snap.join(generation), MAP_BYTES)?;
    let mut batch = WriteBatch::default();
    engine.range(
        Table::Key,
        Bound::Unbounded,
        Bound::Unbounded,
        &mut |row, content| {
            let mut pair = KeyValue::decode(content).expect("a pair");
            if pair.key == DAMAGED {
                pair.version += 100;
                batch.put(
                    Table::Key,
                    Bytes::copy_from_slice(row),
                    pair.encode_to_vec(),
                );
            }
            true
        },
    )?;
    ensure!(batch.changes.len() == 1, "the pair is not there");
    Ok(engine.write(&batch)?)
}
