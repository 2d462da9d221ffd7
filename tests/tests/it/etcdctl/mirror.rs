//! Commands that send many requests: `make-mirror`, a copy of the keys of one cluster in another,
//! which follows the changes, and `check datascale`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp};
use keelson_proto::etcdserverpb::{TxnRequest, request_op};
use keelson_tests::proc::client;

use super::*;

/// More keys than etcdctl reads at once.
const KEYS: usize = 1_100;
/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Operations of a transaction, as many as etcd allows.
const OPERATIONS: usize = 128;

type Pairs = BTreeMap<String, String>;

/// A mirror: its flags, and what stands for `m/` in the copy.
const MIRRORS: [(&str, &str); 3] = [
    ("--prefix=m/", "m/"),
    ("--prefix=m/ --dest-prefix=copy/", "copy/"),
    ("--prefix=m/ --no-dest-prefix", ""),
];

fn put(key: String, value: &str) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(request_op::Request::RequestPut(put)),
    }
}

async fn write(url: &str, success: &[RequestOp]) -> Result<()> {
    let txn = TxnRequest {
        success: success.to_vec(),
        ..TxnRequest::default()
    };
    client::kv(url).await?.txn(txn).await?;
    Ok(())
}

/// All pairs with the prefix, whose place `with` takes.
async fn pairs(url: &str, prefix: &str, with: &str) -> Result<Pairs> {
    let all = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..RangeRequest::default()
    };
    let found = client::kv(url).await?.range(all).await?.into_inner();
    let pairs = found.kvs.into_iter().filter_map(|kv| {
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        let key = format!("{with}{}", key.strip_prefix(prefix)?);
        Some((key, String::from_utf8_lossy(&kv.value).into_owned()))
    });
    Ok(pairs.collect())
}

/// Waits until the copy is equal.
async fn equal(from: &str, to: &str, (flags, prefix): (&str, &str)) -> Result<()> {
    let begin = Instant::now();
    loop {
        let expected = pairs(from, "m/", prefix).await?;
        let copy = pairs(to, prefix, prefix).await?;
        if copy == expected {
            return Ok(());
        }
        let (is, not) = (copy.len(), expected.len());
        ensure!(begin.elapsed() < LIMIT, "{flags}: {is} keys, not {not}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A change of each kind.
async fn change(url: &str) -> Result<()> {
    let both = ["m/k0", "m/new"].map(|key| put(key.to_owned(), "changed"));
    write(url, &both).await?;
    write(url, &[put("other".to_owned(), "is not mirrored")]).await?;
    let delete = DeleteRangeRequest {
        key: "m/k1".into(),
        range_end: "m/k10\0".into(),
        prev_kv: false,
    };
    client::kv(url).await?.delete_range(delete).await?;
    write(url, &[put("m/k1".to_owned(), "again")]).await
}

/// Mirrors one server in another.
async fn mirror(from: &Side, to: &Side, kind: (&str, &str), etcdctl: &Path) -> Result<()> {
    let host = to.endpoint().trim_start_matches("http://");
    let arguments = format!("make-mirror {} {host}", kind.0);
    let running = Stream::start(etcdctl, from.endpoint(), &arguments, "", "")?;
    let follows = async {
        equal(from.endpoint(), to.endpoint(), kind).await?;
        change(from.endpoint()).await?;
        equal(from.endpoint(), to.endpoint(), kind).await
    };
    let followed = follows.await;
    let printed = running.stop()?;
    followed.with_context(|| format!("{printed}{}{}", from.logs(), to.logs()))
}

async fn with_keys(binary: &Path, keys: usize) -> Result<Side> {
    let side = Side::start(binary).await?;
    let all: Vec<RequestOp> = (0..keys)
        .map(|key| put(format!("m/k{key}"), "first"))
        .collect();
    for some in all.chunks(OPERATIONS) {
        write(side.endpoint(), some).await?;
    }
    Ok(side)
}

#[tokio::test]
async fn etcdctl_mirrors_keys_between_us_and_etcd_in_both_directions() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let etcdctl = binary::on_path("etcdctl").context("etcd is on PATH, but etcdctl is not")?;
    let ours = binary::ours()?;
    // The last by etcdctl 3.5.1, where that is installed.
    let newer = snapshots::newer()?.map_or_else(|| etcdctl.clone(), |peer| peer.ctl);
    let pairs = [
        (&ours, &ours, KEYS, &etcdctl),
        (&ours, &etcd, 30, &etcdctl),
        (&etcd, &ours, 30, &newer),
    ];
    for ((from, to, keys, etcdctl), kind) in pairs.into_iter().zip(MIRRORS) {
        let (from, to) = tokio::join!(with_keys(from, keys), Side::start(to));
        mirror(&from?, &to?, kind, etcdctl).await?;
    }
    Ok(())
}

/// It writes 10,000 keys of 1 KiB, reads the member's memory from `/metrics`, compacts and
/// defragments.
#[tokio::test]
async fn etcdctl_checks_the_memory_of_a_member() -> Result<()> {
    let Some(etcdctl) = binary::or_skip("etcdctl")? else {
        return Ok(());
    };
    let side = Side::start(&binary::ours()?).await?;
    let words = ["check", "datascale", "--auto-compact", "--auto-defrag"];
    let (code, out, err) = call(&etcdctl, side.endpoint(), &words, "")?;
    let done = ["Compacted with revision 10002", "Defragmented", "PASS: "];
    let printed = format!("{out}{err}");
    let passed = done.iter().all(|line| printed.contains(line));
    ensure!(code == 0 && passed, "{code}: {printed}{}", side.logs());
    Ok(())
}
