//! A member follows another one of this process.

mod beside;
mod gateway;

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;
use keelson_store::internals::WalkScope;
use keelson_store::{Config, Error, StateError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::cutover::{CutoverRequest, Pending};
use super::source::SourceMember;
use super::*;

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..PutRequest::default()
    }
}

/// The URL at which a store serves clients until the test ends.
async fn serve(store: &Store) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let store = store.clone();
    tokio::spawn(async move { store.serve(vec![listener], std::future::pending()).await });
    format!("http://{at}")
}

async fn source(dir: &Path) -> (Store, String) {
    let store = Store::open(Config::single("source", dir.join("source")))
        .await
        .unwrap();
    store.ready().await;
    let url = serve(&store).await;
    let grant = LeaseGrantRequest { ttl: 3600, id: 7 };
    store.lease_grant(grant).await.unwrap();
    for number in 0..20 {
        let key = format!("k{}", number % 7);
        store
            .put(put(&key, "before", 7 * (number % 2)))
            .await
            .unwrap();
    }
    (store, url)
}

/// A standby of the source, and the task that follows it.
async fn standby(dir: &Path, url: &str) -> (Store, JoinHandle<()>) {
    let (store, task, _) = standby_with_reason(dir, url).await;
    (store, task)
}

/// Why it begins anew, once it does.
type Reason = Arc<Mutex<Option<Anew>>>;

async fn standby_with_reason(dir: &Path, url: &str) -> (Store, JoinHandle<()>, Reason) {
    let config = Config::single("standby", dir.join("standby"));
    standby_of(config, dir, url).await
}

async fn standby_of(config: Config, dir: &Path, url: &str) -> (Store, JoinHandle<()>, Reason) {
    let arguments = FollowArguments::parse_from(["follow", "--from", url]);
    let plan = FollowPlan {
        urls: vec![url.to_owned()],
        v2: true,
        hidden: vec!["/_named".to_owned()],
        access: Arc::new(arguments.access.access().unwrap()),
    };
    let part = dir.join("part");
    let marker = match Store::is_there(&config).unwrap() {
        true => begin::read(&config.data_dir).unwrap(),
        false => Some(begin::make(&config, &plan, &part).await.unwrap()),
    };
    let store = Store::open(config).await.unwrap();
    let reason = Reason::default();
    let task = companion(plan, marker, Arc::clone(&reason));
    let task = tokio::spawn(task(store.clone()));
    (store, task, reason)
}

async fn reaches(standby: &Store, revision: i64) {
    let began = Instant::now();
    while standby.revision() < revision {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not follow"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Cuts the standby over. Returns the answer.
async fn cut(dir: &Path) -> Result<String, String> {
    let patience = Duration::from_secs(60);
    let began = Instant::now();
    loop {
        // The socket comes with the task.
        match cut_over(&dir.join("standby"), true, patience).await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < patience, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Changes of every kind.
async fn change(source: &Store) -> i64 {
    let delete = DeleteRangeRequest {
        key: "k1".into(),
        range_end: "k4".into(),
        ..DeleteRangeRequest::default()
    };
    source.delete_range(delete).await.unwrap();
    let grant = LeaseGrantRequest { ttl: 1800, id: 8 };
    source.lease_grant(grant).await.unwrap();
    source.put(put("leased", "x", 8)).await.unwrap();
    let puts = ["z", "a", "m"].map(|key| RequestOp {
        request: Some(request_op::Request::RequestPut(put(key, "txn", 0))),
    });
    let txn = TxnRequest {
        success: puts.to_vec(),
        ..TxnRequest::default()
    };
    source.txn(txn).await.unwrap();
    // Its keys are deleted in one revision.
    source
        .lease_revoke(LeaseRevokeRequest { id: 7 })
        .await
        .unwrap();
    let revision = source.revision();
    let compaction = CompactionRequest {
        revision: revision - 2,
        physical: true,
    };
    source.compact(compaction).await.unwrap();
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_and_is_opened_with_the_same_contents() {
    let dir = tempfile::tempdir().unwrap();
    let (source, url) = source(dir.path()).await;
    let (store, task) = standby(dir.path(), &url).await;
    reaches(&store, source.revision()).await;
    let refused = store.put(put("k", "v", 0)).await.map(drop);
    assert_eq!(refused, Err(Error::State(StateError::Standby)));
    // The compaction must come after the watch.
    source.put(put("followed", "v", 0)).await.unwrap();
    reaches(&store, source.revision()).await;
    let revision = change(&source).await;
    reaches(&store, revision).await;
    // A restart goes on at its revision.
    task.abort();
    let _ = task.await;
    store.shutdown().await;
    drop(store);
    source.put(put("meanwhile", "v", 8)).await.unwrap();
    let (store, task) = standby(dir.path(), &url).await;
    let answer = cut(dir.path()).await.unwrap();
    assert!(answer.contains("open for writes"), "{answer}");
    let (ours, theirs) = (store.hash_kv(0).await, source.hash_kv(0).await);
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(
        (ours.hash, ours.compact_revision, store.revision()),
        (theirs.hash, theirs.compact_revision, source.revision())
    );
    assert_eq!(store.lease_ids(), [8]);
    let fenced = source.put(put("late", "v", 0)).await.map(drop);
    assert_eq!(fenced, Err(Error::State(StateError::Corrupt)));
    let before = store.revision();
    store.put(put("after", "v", 8)).await.unwrap();
    assert_eq!(store.revision(), before + 1);
    assert!(store.status().raft_term > source.status().raft_term);
    task.abort();
    store.shutdown().await;
    source.shutdown().await;
}

fn tree_change(op: Op, path: &str, value: &str, seconds: i64) -> TreeRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let time_ns = i64::try_from(now.as_nanos()).unwrap();
    TreeRequest {
        op: op.into(),
        path: path.to_owned().into(),
        value: value.to_owned().into(),
        expires_ns: if seconds == 0 {
            0
        } else {
            time_ns + seconds * 1_000_000_000
        },
        time_ns,
        ..TreeRequest::default()
    }
}

/// With what no event shows: a renewal of a time to live, and hidden nodes.
#[tokio::test(flavor = "multi_thread")]
async fn v2_keys_are_followed_with_their_indexes_and_times() {
    let dir = tempfile::tempdir().unwrap();
    let (source, url) = source(dir.path()).await;
    let change = async |request| source.tree_change(request).await.unwrap();
    change(tree_change(Op::Set, "/1/_h/before", "1", 0)).await;
    change(tree_change(Op::Set, "/1/a/mortal", "1", 1800)).await;
    change(tree_change(Op::Set, "/1/a/gone", "1", 0)).await;
    let (store, task) = standby(dir.path(), &url).await;
    change(tree_change(Op::CompareAndSwap, "/1/a/mortal", "2", 0)).await;
    let refresh = TreeRequest {
        refresh: true,
        ..tree_change(Op::Update, "/1/a/mortal", "", 3600)
    };
    change(refresh).await;
    change(tree_change(Op::Delete, "/1/a/gone", "", 0)).await;
    change(tree_change(Op::CreateInOrder, "/1/queue", "3", 0)).await;
    let last = change(tree_change(Op::Set, "/1/_h/_i/after", "4", 0)).await;
    let began = Instant::now();
    while store.tree_index() < last.index {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not follow"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = store.tree_change(tree_change(Op::Set, "/1/a", "", 0)).await;
    assert!(refused.is_err());
    let answer = cut(dir.path()).await.unwrap();
    let index = source.tree_index();
    let says = format!(
        "Its v2 keys are those of v2 index {index}; of hidden ones those that were known.\n\
         The source refuses"
    );
    assert!(answer.contains(&says), "{answer}");
    let all = WalkScope {
        recursive: true,
        hidden: true,
    };
    let (theirs, ours) = (source.tree_below(b"/1", all), store.tree_below(b"/1", all));
    assert_eq!(ours, theirs);
    assert_eq!(store.tree_index(), index);
    let fenced = source
        .tree_change(tree_change(Op::Set, "/1/late", "", 0))
        .await;
    assert!(fenced.is_err());
    let after = store
        .tree_change(tree_change(Op::Set, "/1/after", "", 0))
        .await;
    assert_eq!(after.unwrap().index, index + 1);
    task.abort();
    store.shutdown().await;
    source.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_behind_a_compaction_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (source, url) = source(dir.path()).await;
    let (store, task) = standby(dir.path(), &url).await;
    task.abort();
    let _ = task.await;
    store.shutdown().await;
    drop(store);
    let revision = change(&source).await;
    let (store, task, reason) = standby_with_reason(dir.path(), &url).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
    ended.expect("it ends").unwrap();
    let Some(Anew::Alone(why)) = reason.lock().take() else {
        panic!("it is the only member");
    };
    let expected = format!("the source is compacted up to revision {}", revision - 2);
    assert!(why.starts_with(&expected), "{why}");
    store.shutdown().await;
    source.shutdown().await;
}

/// It was opened, and the first write was refused with the source fenced.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_without_room_follows_and_is_not_opened_until_it_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let (source, url) = source(dir.path()).await;
    let small = Config {
        quota_bytes: 1,
        ..Config::single("standby", dir.path().join("standby"))
    };
    let (store, task, _) = standby_of(small, dir.path(), &url).await;
    source.put(put("followed", "v", 0)).await.unwrap();
    reaches(&store, source.revision()).await;
    let refused = cut(dir.path()).await.unwrap_err();
    assert!(refused.contains("--quota-backend-bytes"), "{refused}");
    source.put(put("not fenced", "v", 0)).await.unwrap();
    task.abort();
    let _ = task.await;
    store.shutdown().await;
    drop(store);
    let (store, task) = standby(dir.path(), &url).await;
    reaches(&store, source.revision()).await;
    cut(dir.path()).await.unwrap();
    store.put(put("after", "v", 0)).await.unwrap();
    task.abort();
    store.shutdown().await;
    source.shutdown().await;
}

/// Through another member, if the one that was followed is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_over_that_fails_ends_the_fence() {
    let dir = tempfile::tempdir().unwrap();
    let (source, url) = source(dir.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let arguments = FollowArguments::parse_from(["follow", "--from", &url]);
    let plan = FollowPlan {
        urls: vec![gone, url.clone()],
        v2: true,
        hidden: Vec::new(),
        access: Arc::new(arguments.access.access().unwrap()),
    };
    let member = SourceMember::connect(&plan.access, &url).await.unwrap();
    let (reply, answer) = oneshot::channel();
    let request = CutoverRequest {
        fence: true,
        patience: Duration::from_secs(60),
        reply,
    };
    let pending = Pending::begin(request, &plan, &member).await.unwrap();
    assert_eq!(pending.target, source.revision());
    let fenced = source.put(put("during", "v", 0)).await.map(drop);
    assert_eq!(fenced, Err(Error::State(StateError::Corrupt)));
    pending.failed("a reason").await;
    assert_eq!(answer.await.unwrap(), Err("a reason".to_owned()));
    source.put(put("after", "v", 0)).await.unwrap();
    source.shutdown().await;
}

#[test]
fn the_flags_of_a_member_are_left_to_it() {
    let words = "follow --from a:1,b:2 --name m --without-v2 --cacert=x --data-dir d --user u";
    let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
    let (own, of_host) = split(&words);
    assert_eq!(
        own.join(" "),
        "follow --from a:1,b:2 --without-v2 --cacert=x --user u"
    );
    assert_eq!(of_host.join(" "), "--name m --data-dir d");
    FollowArguments::command().debug_assert();
}

/// etcd 3.4 refuses a user's watch by cancelling it, with the error as Go prints it. The standby
/// logs in again by the same text as for a call.
#[test]
fn a_watch_that_is_cancelled_for_its_token_is_refused_as_a_call() {
    let invalid = Error::State(StateError::InvalidAuthToken).to_string();
    let status = source::cancelled(&format!(
        "rpc error: code = Unauthenticated desc = {invalid}"
    ));
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert_eq!(status.message(), invalid);
    let other = source::cancelled("etcdserver: no leader");
    assert_eq!(other.message(), "etcdserver: no leader");
}
