//! `/metrics` of members: the text is sound, and etcd's alerts and dashboard find what they need.

mod exposition;
mod mixin;

use std::time::Duration;

use exposition::Series;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::{CompactionRequest, LeaseGrantRequest, RangeRequest};
use keelson_store::{Config, Store};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;

use crate::embedded::{members, open, put};

async fn get(url: &str) -> anyhow::Result<(http::HeaderMap, String)> {
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.get(url.parse()?).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((head.headers, String::from_utf8(body.to_vec())?))
}

/// The value of the only series with that name and label.
fn value(series: &[Series], name: &str, label: Option<(&str, &str)>) -> f64 {
    let of = |one: &&Series| {
        one.name == name
            && label.is_none_or(|(label, value)| one.labels.get(label).is_some_and(|v| v == value))
    };
    let found: Vec<f64> = series.iter().filter(of).map(|one| one.value).collect();
    assert_eq!(found.len(), 1, "{name} {label:?}");
    found[0]
}

/// Scrapes until the peers' calls have been measured.
async fn scrape(url: &str) -> anyhow::Result<Vec<Series>> {
    loop {
        let (headers, text) = get(url).await?;
        assert_eq!(
            headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        let series = exposition::read(&text)?;
        let name = "etcd_network_peer_round_trip_time_seconds_count";
        if value(&series, name, None) != 0.0 {
            return Ok(series);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Serves a member: the URLs of its clients and of its metrics.
pub(crate) async fn serve(store: Store) -> anyhow::Result<(String, String)> {
    let (clients, metrics) = (
        TcpListener::bind("127.0.0.1:0").await?,
        TcpListener::bind("127.0.0.1:0").await?,
    );
    let urls = (
        format!("http://{}", clients.local_addr()?),
        format!("http://{}/metrics", metrics.local_addr()?),
    );
    let scraped = store.clone();
    tokio::spawn(async move { store.serve(vec![clients], std::future::pending()).await });
    tokio::spawn(async move {
        let stop = std::future::pending();
        scraped.serve_metrics(vec![metrics], stop).await
    });
    Ok(urls)
}

/// Of a member with three puts.
fn check_further(series: &[Series]) {
    for name in ["fsync", "write"] {
        let name = format!("etcd_disk_wal_{name}_duration_seconds_count");
        assert!(value(series, &name, None) > 0.0, "{name}");
    }
    let gate = Some(("name", "CompactHashCheck"));
    assert_eq!(value(series, "etcd_server_feature_enabled", gate), 0.0);
    let writes = Some(("type", "write"));
    let name = "keelson_prefix_requests_total";
    assert_eq!(value(series, name, writes), 3.0);
    assert_eq!(value(series, "keelson_proxies_seen", None), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_find_their_series() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut configs = members(dir.path(), 2);
    for config in &mut configs {
        config.extensive_metrics = true;
    }
    let stores = open(configs).await?;
    let (clients, metrics) = serve(stores[0].clone()).await?;
    let mut kv = KvClient::connect(clients.clone()).await?;
    for _ in 0..3 {
        kv.put(put("key", "value")).await?;
    }
    let future = RangeRequest {
        key: "key".into(),
        revision: 99,
        ..RangeRequest::default()
    };
    kv.range(future).await.expect_err("a future revision");
    let series = scrape(&metrics).await?;
    for expression in mixin::EXPRESSIONS {
        mixin::check(expression, &series)?;
    }
    for (name, expected) in [
        ("etcd_mvcc_put_total", 3.0),
        ("etcd_debugging_mvcc_keys_total", 1.0),
        ("etcd_debugging_mvcc_current_revision", 4.0),
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
        ("etcd_network_active_peers", 1.0),
    ] {
        assert_eq!(value(&series, name, None), expected, "{name}");
    }
    let handled = |method: &str, code: &str| {
        let of = |one: &&Series| {
            one.name == "grpc_server_handled_total"
                && one.labels["grpc_method"] == method
                && one.labels["grpc_code"] == code
        };
        series.iter().find(of).map(|one| one.value)
    };
    assert_eq!(handled("Put", "OK"), Some(3.0));
    assert_eq!(handled("Range", "OutOfRange"), Some(1.0));
    let puts = Some(("grpc_method", "Put"));
    assert_eq!(value(&series, "grpc_server_msg_received_total", puts), 3.0);
    assert_eq!(
        value(&series, "grpc_server_handling_seconds_count", puts),
        3.0
    );
    let failed = Some(("success", "false"));
    let name = "etcd_server_range_duration_seconds_count";
    assert_eq!(value(&series, name, failed), 1.0);
    check_further(&series);
    // The client port has the same.
    let (_, text) = get(&format!("{clients}/metrics")).await?;
    let of_clients = exposition::read(&text)?;
    assert_eq!(of_clients.len(), series.len());
    for store in &stores {
        store.shutdown().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_alone_has_no_series_of_peers() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(vec![Config::single("alone", dir.path())]).await?;
    let (clients, _) = serve(stores[0].clone()).await?;
    let (_, text) = get(&format!("{clients}/metrics")).await?;
    let series = exposition::read(&text)?;
    assert!(!series.iter().any(|one| one.name.contains("_peer")));
    stores[0].shutdown().await;
    Ok(())
}

/// What an operator does is measured: a compaction, a snapshot, a hash, a probe, a promotion that
/// fails, a lease, and requests of the v2 API.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_does_is_measured() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(vec![Config::single("alone", dir.path())]).await?;
    let store = &stores[0];
    let (clients, metrics) = serve(store.clone()).await?;
    let mut kv = KvClient::connect(clients.clone()).await?;
    let mut request = tonic::Request::new(put("key", "value"));
    let version = "3.5".parse()?;
    request.metadata_mut().insert("client-api-version", version);
    kv.put(request).await?;
    let grant = LeaseGrantRequest { ttl: 60, id: 7 };
    store.lease_grant(grant).await?;
    let compaction = CompactionRequest {
        revision: 2,
        physical: true,
    };
    store.compact(compaction).await?;
    let parts: Vec<_> = store.snapshot().collect().await;
    assert!(parts.iter().all(Result::is_ok));
    store.hash().await?;
    let promoted = store.member_promote(store.member_id()).await;
    promoted.expect_err("a voter");
    get(&format!("{clients}/readyz")).await?;
    get(&format!("{clients}/v2/keys/none?recursive=true")).await?;
    let (_, text) = get(&metrics).await?;
    let series = exposition::read(&text)?;
    for (name, label, expected) in [
        ("etcd_debugging_lease_ttl_total_sum", None, 60.0),
        (
            "etcd_disk_backend_snapshot_duration_seconds_count",
            None,
            1.0,
        ),
        ("etcd_mvcc_hash_duration_seconds_count", None, 1.0),
        ("etcd_server_snapshot_apply_in_progress_total", None, 0.0),
        (
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
            None,
            1.0,
        ),
        (
            "etcd_server_learner_promote_failures",
            Some(("Reason", "etcdserver: can only promote a learner member")),
            1.0,
        ),
        (
            "etcd_server_client_requests_total",
            Some(("client_api_version", "3.5")),
            1.0,
        ),
        (
            "etcd_server_healthcheck",
            Some(("name", "linearizable_read")),
            1.0,
        ),
        (
            "etcd_debugging_store_reads_failed_total",
            Some(("action", "getRecursive")),
            1.0,
        ),
    ] {
        assert_eq!(value(&series, name, label), expected, "{name}");
    }
    assert!(value(&series, "etcd_debugging_mvcc_db_compaction_last", None) > 1e9);
    store.shutdown().await;
    Ok(())
}
