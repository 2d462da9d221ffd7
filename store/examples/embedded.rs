//! A store inside a program: no port, no second process.
//!
//! Run it with `cargo run -p keelson-store --example embedded [DIRECTORY]`; a second run with the
//! same directory finds the data of the first. For a replicated store, run three of these, each
//! with a `Config` that names the others in `initial_cluster` and opens a peer port.

use bytes::Bytes;
use keelson_store::messages::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};
use keelson_store::{Config, Store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os()
        .nth(1)
        .map_or(scratch.path().to_owned(), Into::into);
    let store = Store::open(Config::single("embedded", dir)).await?;
    store.ready().await;

    let visits = match store.get("visits").await? {
        Some(kv) => std::str::from_utf8(&kv.value)?.parse::<u64>()?,
        None => 0,
    };
    store.put(put("visits", (visits + 1).to_string())).await?;
    println!("visit number {}", visits + 1);

    // Only the first run creates the key: a compare-and-set, as in etcd.
    let created = store
        .txn(create("founded-by", std::process::id().to_string()))
        .await?;
    println!("this run founded the store: {}", created.succeeded);

    let everything = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    };
    for kv in store.range(everything).await?.kvs {
        let (key, value) = (
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value),
        );
        println!(
            "{key} = {value} (revision {}, version {})",
            kv.mod_revision, kv.version
        );
    }
    store.shutdown().await;
    Ok(())
}

fn put(key: &str, value: String) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn create(key: &str, value: String) -> TxnRequest {
    let absent = Compare {
        target: compare::CompareTarget::Version.into(),
        result: compare::CompareResult::Equal.into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        target_union: Some(compare::TargetUnion::Version(0)),
        ..Compare::default()
    };
    let request = Some(request_op::Request::RequestPut(put(key, value)));
    TxnRequest {
        compare: vec![absent],
        success: vec![RequestOp { request }],
        ..TxnRequest::default()
    }
}
