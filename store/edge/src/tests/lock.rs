//! Locks over gRPC and JSON.

use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::*;
use keelson_proto::v3lockpb::lock_client::LockClient;
use keelson_proto::v3lockpb::*;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::fake::Fake;
use super::gateway::post;
use super::{Port, within};

async fn client(port: &Port) -> LockClient<Channel> {
    LockClient::new(port.channel().await)
}

fn lock(name: &str, lease: i64) -> LockRequest {
    LockRequest {
        name: Bytes::copy_from_slice(name.as_bytes()),
        lease,
    }
}

/// A call that waits, or that may have to.
type Waiting = JoinHandle<Result<Bytes, Status>>;

fn begin(client: &LockClient<Channel>, request: LockRequest) -> Waiting {
    let mut client = client.clone();
    tokio::spawn(async move {
        let locked = client.lock(request).await;
        locked.map(|locked| locked.into_inner().key)
    })
}

async fn locked(waiting: Waiting) -> Bytes {
    within(waiting).await.unwrap().unwrap()
}

pub(super) async fn grant(port: &Port, id: i64) {
    let request = LeaseGrantRequest { id, ttl: 60 };
    let mut leases = LeaseClient::new(port.channel().await);
    leases.lease_grant(request).await.unwrap();
}

pub(super) async fn revoke(port: &Port, id: i64) {
    let request = LeaseRevokeRequest { id };
    let mut leases = LeaseClient::new(port.channel().await);
    leases.lease_revoke(request).await.unwrap();
}

/// The keys below a prefix.
pub(super) fn below(fake: &Fake, prefix: &str) -> Vec<String> {
    let mut range_end = prefix.as_bytes().to_vec();
    *range_end.last_mut().unwrap() += 1;
    let request = RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: range_end.into(),
        ..RangeRequest::default()
    };
    let found = fake.view().range(&request).unwrap().kvs.into_iter();
    found
        .map(|kv| String::from_utf8(kv.key.to_vec()).unwrap())
        .collect()
}

/// Waits until a condition holds.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), holding).await;
    assert!(waited.is_ok(), "{what}");
}

/// One contender after another, each with a place.
async fn contenders(port: &Port, ids: impl IntoIterator<Item = i64>) -> Vec<Waiting> {
    let client = client(port).await;
    let mut waiting = Vec::new();
    for id in ids {
        grant(port, id).await;
        waiting.push(begin(&client, lock("l", id)));
        until("it has a place", || {
            below(&port.fake, "l/").len() == waiting.len()
        })
        .await;
    }
    waiting
}

#[tokio::test]
async fn a_lock_passes_on_in_the_order_of_the_requests() {
    let port = Port::start().await;
    let mut client = client(&port).await;
    let ids = [255, 1, 254, 2, -5];
    let keys = ["l/ff", "l/1", "l/fe", "l/2", "l/-5"];
    let mut waiting = contenders(&port, ids).await.into_iter();
    for (at, expected) in keys.into_iter().enumerate() {
        assert_eq!(locked(waiting.next().unwrap()).await, expected);
        assert!(waiting.as_slice().iter().all(|later| !later.is_finished()));
        // Every second session unlocks; the others end.
        match at % 2 {
            0 => {
                let key = Bytes::from_static(expected.as_bytes());
                client.unlock(UnlockRequest { key }).await.unwrap();
            }
            _ => revoke(&port, ids[at]).await,
        }
    }
    assert!(below(&port.fake, "l/").is_empty());
}

#[tokio::test]
async fn a_session_that_has_a_lock_gets_it_again() {
    let port = Port::start().await;
    let mut client = client(&port).await;
    grant(&port, 7).await;
    let first = client.lock(lock("l", 7)).await.unwrap().into_inner();
    let again = client.lock(lock("l", 7)).await.unwrap().into_inner();
    assert_eq!((&first.key, &again.key), (&"l/7".into(), &first.key));
    // Without a lease a session of 60 s is created, which outlives the call.
    let other = client.lock(lock("other", 0)).await.unwrap().into_inner();
    let mut leases = port.fake.view().leases().into_iter();
    let lease = leases.find(|lease| lease.id != 7).unwrap();
    assert_eq!(lease.ttl, 60);
    assert_eq!(other.key, format!("other/{:x}", lease.id));
}

/// As etcd 3.4.23: the key of a client that gave up does not block the others.
#[tokio::test]
async fn a_client_that_gives_up_loses_its_place() {
    let port = Port::start().await;
    let mut waiting = contenders(&port, [1, 2, 3]).await;
    let third = waiting.pop().unwrap();
    waiting.pop().unwrap().abort();
    until("the place is given up", || {
        below(&port.fake, "l/") == ["l/1", "l/3"]
    })
    .await;
    assert!(!third.is_finished());
    // The lease is the client's.
    assert_eq!(port.fake.view().leases().len(), 3);
    revoke(&port, 1).await;
    assert_eq!(locked(third).await, "l/3");
}

/// etcd leaves the lease until it expires.
#[tokio::test]
async fn a_session_of_a_client_that_gives_up_is_ended() {
    let port = Port::start().await;
    let first = contenders(&port, [1]).await;
    let begin = async || {
        let request = r#"{"name":"bA=="}"#;
        let mut socket = port.connect().await;
        let head = format!(
            "POST /v3/lock/lock HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{request}",
            request.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        until("it has a place", || below(&port.fake, "l/").len() == 2).await;
        assert_eq!(port.fake.view().leases().len(), 2);
        socket
    };
    drop(begin().await);
    until("the place is given up", || {
        below(&port.fake, "l/") == ["l/1"]
    })
    .await;
    assert_eq!(port.fake.view().leases().len(), 1);
    // The same at the client's deadline.
    let mut client = client(&port).await;
    let mut request = Request::new(lock("l", 0));
    request.set_timeout(Duration::from_millis(50));
    let status = within(client.lock(request)).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status}"
    );
    until("the place is given up", || {
        below(&port.fake, "l/") == ["l/1"] && port.fake.view().leases().len() == 1
    })
    .await;
    first.into_iter().next().unwrap().await.unwrap().unwrap();
}

/// etcd finds that only when the session's turn comes.
#[tokio::test]
async fn a_session_that_ends_while_it_waits_gets_no_lock() {
    let port = Port::start().await;
    let mut waiting = contenders(&port, [1, 2, 3]).await;
    revoke(&port, 2).await;
    let third = waiting.pop().unwrap();
    let status = within(waiting.pop().unwrap()).await.unwrap().unwrap_err();
    let expected = (Code::Unknown, "mutex: session is expired");
    assert_eq!((status.code(), status.message()), expected);
    assert!(!third.is_finished());
    revoke(&port, 1).await;
    assert_eq!(locked(third).await, "l/3");
}

/// The session's key was created anew meanwhile: its place is the last.
#[tokio::test]
async fn a_place_that_was_lost_is_not_found_in_a_later_one() {
    let port = Port::start().await;
    let mut waiting = contenders(&port, [1, 2, 3]).await;
    let (key, value) = (Bytes::from_static(b"l/2"), Bytes::from_static(b"x"));
    let mut kv = port.kv().await;
    let delete = DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    };
    kv.delete_range(delete).await.unwrap();
    let put = PutRequest {
        key,
        value,
        lease: 2,
        ..PutRequest::default()
    };
    kv.put(put).await.unwrap();
    let third = waiting.pop().unwrap();
    let status = within(waiting.pop().unwrap()).await.unwrap().unwrap_err();
    assert_eq!(status.message(), "mutex: session is expired");
    revoke(&port, 1).await;
    assert_eq!(locked(third).await, "l/3");
    assert_eq!(below(&port.fake, "l/"), ["l/2", "l/3"]);
}

#[tokio::test]
async fn calls_that_wait_end_with_the_port() {
    let mut port = Port::start().await;
    let waiting = contenders(&port, [1, 2]).await.pop().unwrap();
    port.begin_shutdown();
    let status = within(waiting).await.unwrap().unwrap_err();
    let expected = (Code::Unavailable, "etcdserver: server stopped");
    assert_eq!((status.code(), status.message()), expected);
    port.stopped().await;
}

/// A wait must not end because its place in history is gone.
#[tokio::test]
async fn a_lock_passes_on_after_compactions() {
    let port = Port::start().await;
    let waiting = contenders(&port, [1, 2]).await.pop().unwrap();
    let mut kv = port.kv().await;
    for round in 0..100 {
        let put = PutRequest {
            key: "other".into(),
            value: vec![b'x'; 1_000].into(),
            ..PutRequest::default()
        };
        let header = kv.put(put).await.unwrap().into_inner().header.unwrap();
        let request = CompactionRequest {
            revision: header.revision,
            ..CompactionRequest::default()
        };
        kv.compact(request).await.unwrap();
        assert!(!waiting.is_finished(), "{round}");
    }
    revoke(&port, 1).await;
    assert_eq!(locked(waiting).await, "l/2");
}

/// Recorded from etcd 3.4.23: the texts of its internal client, without their codes.
#[tokio::test]
async fn refusals_of_locks_are_etcds() {
    let port = Port::start().await;
    for (path, body, text) in [
        (
            "/v3/lock/lock",
            r#"{"name":"bA==","lease":"123"}"#,
            "etcdserver: requested lease not found",
        ),
        (
            "/v3/lock/lock",
            r#"{"name":"bA==","lease":"-1"}"#,
            "etcdserver: requested lease not found",
        ),
        ("/v3/lock/unlock", "{}", "etcdserver: key is not provided"),
    ] {
        let (head, answer) = post(&port, path, body).await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&answer["code"], &answer["message"]),
            (&2.into(), &text.into()),
            "{body}"
        );
    }
    let (head, _) = post(&port, "/v3beta/lock/unlock", r#"{"key":"bm9rZXk="}"#).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (_, locked) = post(&port, "/v3/lock/lock", "{}").await;
    assert!(
        locked.contains(r#""key":"L"#),
        "a name is not required: {locked}"
    );
}
