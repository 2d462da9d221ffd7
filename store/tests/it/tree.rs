//! The v2 tree inside a program: one member with its log and its clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keelson_core::tree::{Action, ErrorCode};
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;
use keelson_store::tree::{ChangeError, WatchSpec};
use keelson_store::{Config, Error, Store};

fn now_ns() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    now.as_nanos() as i64
}

fn set(path: &str, value: &str, ttl: Option<Duration>) -> TreeRequest {
    let time_ns = now_ns();
    TreeRequest {
        op: Op::Set.into(),
        path: Bytes::copy_from_slice(path.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expires_ns: ttl.map_or(0, |ttl| time_ns + ttl.as_nanos() as i64),
        time_ns,
        ..TreeRequest::default()
    }
}

fn spec(path: &'static str, since: u64) -> WatchSpec {
    WatchSpec {
        path: Bytes::from_static(path.as_bytes()),
        recursive: true,
        stream: true,
        since,
    }
}

/// For what must come; only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(60);

async fn open(config: &Config) -> anyhow::Result<Store> {
    let store = crate::embedded::open_one(config.clone()).await?;
    store.ready().await;
    // The member and the version of a new cluster advance the index too, and the version comes
    // later.
    let advanced = async {
        while store.tree_get(b"/1", false)?.1 < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, advanced).await??;
    Ok(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn indices_and_history_survive_a_restart() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config::single("alone", dir.path());
    let store = open(&config).await?;
    let first = store.tree_change(set("/1/a", "one", None)).await?;
    store.tree_change(set("/1/a", "two", None)).await?;
    let (node, index) = store.tree_get(b"/1/a", false)?;
    assert_eq!((node.modified, index), (first.index + 1, first.index + 1));
    store.shutdown().await;
    drop(store);

    let store = open(&config).await?;
    let (again, index_again) = store.tree_get(b"/1/a", false)?;
    assert_eq!((&again, index_again), (&node, index));
    let mut watch = store.tree_watch(spec("/1", first.index))?;
    assert_eq!(
        watch.next().await.map(|event| event.index),
        Some(first.index)
    );
    assert_eq!(watch.next().await.map(|event| event.index), Some(index));
    let third = store.tree_change(set("/1/b", "three", None)).await?;
    assert_eq!((third.index, watch.next().await), (index + 1, Some(third)));
    store.shutdown().await;
    Ok(())
}

/// etcd has no limit but that of Go's forms. The value passes through the leader, the log and the
/// peers.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_ten_megabytes_is_kept_by_three_members() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = crate::embedded::members(dir.path(), 3);
    let stores = crate::embedded::open(configs.clone()).await?;
    let value = "x".repeat((10 << 20) - 6);
    for (number, store) in stores.iter().enumerate() {
        let request = set(&format!("/1/{number}"), &value, None);
        // On a loaded machine ten megabytes may take longer than a request may.
        while let Err(error) = store.tree_change(request.clone()).await {
            let is_late = matches!(error, ChangeError::Other(Error::Timeout));
            anyhow::ensure!(is_late, "{error}");
        }
    }
    for store in &stores {
        for number in 0..3 {
            let path = format!("/1/{number}");
            let arrived = async {
                while store.tree_get(path.as_bytes(), false).is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(LIMIT, arrived).await?;
        }
    }
    for store in stores {
        store.shutdown().await;
    }
    let opening = configs.into_iter().map(crate::embedded::open_one);
    for opened in futures_util::future::join_all(opening).await {
        let store = opened?;
        let (node, _) = store.tree_get(b"/1/2", false)?;
        let kept = node.value.as_ref().map(|value| value.len());
        assert_eq!(kept, Some(value.len()));
        store.shutdown().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_returns_the_reason_and_leaves_the_index() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open(&Config::single("alone", dir.path())).await?;
    let wrong = TreeRequest {
        op: Op::Update.into(),
        ..set("/1/absent", "x", None)
    };
    for attempt in 1.. {
        anyhow::ensure!(attempt < 1_000, "the index advances by itself");
        let index = store.tree_get(b"/1", false)?.1;
        let refused = store.tree_change(wrong.clone()).await;
        let refused = refused.expect_err("nothing to update");
        let ChangeError::Tree(refused) = refused else {
            anyhow::bail!("{refused}");
        };
        // A member that is slow publishes itself again, which advances the index.
        if store.tree_get(b"/1", false)?.1 == index {
            assert_eq!(refused.code, ErrorCode::KeyNotFound);
            assert_eq!(refused.index, index);
            break;
        }
    }
    store.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_when_its_time_is_over() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open(&Config::single("alone", dir.path())).await?;
    let began = Instant::now();
    let ttl = Duration::from_millis(400);
    store.tree_change(set("/1/a", "one", Some(ttl))).await?;
    let mut watch = store.tree_watch(spec("/1/a", 0))?;
    let gone = tokio::time::timeout(Duration::from_secs(20), watch.next()).await?;
    assert_eq!(gone.map(|event| event.action), Some(Action::Expire));
    assert!(ttl <= began.elapsed(), "not before its time");
    assert!(store.tree_get(b"/1/a", false).is_err());
    store.shutdown().await;
    Ok(())
}

/// It could not be renewed without a leader, so a new leader does not expire it at once.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_time_without_a_leader_there_is_a_grace() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        v2_ttl_grace_ms: 5000,
        ..Config::single("alone", dir.path())
    };
    let store = open(&config).await?;
    let ttl = Duration::from_millis(300);
    for path in ["/1/renewed", "/1/dead"] {
        store.tree_change(set(path, "one", Some(ttl))).await?;
    }
    store.shutdown().await;
    drop(store);
    tokio::time::sleep(2 * ttl).await;

    let store = open(&config).await?;
    let (overdue, _) = store.tree_get(b"/1/dead", false)?;
    assert_eq!(overdue.ttl, 0, "never negative");
    let mut watch = store.tree_watch(spec("/1", 0))?;
    store
        .tree_change(set("/1/renewed", "two", Some(Duration::from_secs(60))))
        .await?;
    // A node set after the outage gets no grace.
    store.tree_change(set("/1/new", "one", Some(ttl))).await?;
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await?;
        gone.extend(
            next.filter(|event| event.action == Action::Expire)
                .map(|event| event.node.key.clone()),
        );
    }
    assert_eq!(gone, ["/1/new", "/1/dead"]);
    assert!(store.tree_get(b"/1/renewed", false).is_ok());
    store.shutdown().await;
    Ok(())
}
