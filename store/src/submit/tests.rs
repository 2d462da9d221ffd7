//! Requests that get no outcome: timeouts and lost leaders.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keelson_core::node::{Input, Role};
use keelson_core::state::Response;
use keelson_proto::etcdserverpb::PutRequest;
use keelson_proto::internal::{Command, command::Op};
use prost::Message;

use super::AtTimeout;
use crate::config::Url;
use crate::member::worker::WorkerEvent;
use crate::{Config, Error, Store};

/// A founder of a cluster of three whose peers do not run, so it has no leader and often starts
/// elections.
async fn without_a_leader(dir: &std::path::Path) -> Store {
    let url = |port| Url::http("127.0.0.1", port);
    let names = ["m1", "m2", "m3"].map(String::from);
    let config = Config {
        initial_advertise_peer_urls: vec![url(1)],
        initial_cluster: names.into_iter().zip((1..).map(url)).collect(),
        heartbeat_ms: 10,
        election_ms: 50,
        pre_vote: false,
        ..Config::single("m1", dir.join("m1"))
    };
    Store::open(config).await.expect("a member")
}

fn put() -> PutRequest {
    PutRequest {
        key: "key".into(),
        ..PutRequest::default()
    }
}

/// b846fd5 attempted each request 200 times a second.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_for_a_leader_are_not_tried_again_and_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = without_a_leader(dir.path()).await;
    let waiting = 50;
    let puts: Vec<_> = (0..waiting)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.put(put()).await })
        })
        .collect();
    // Elections follow each other, and none is won.
    let mut soft_state = store.inner.shared.watch_soft_state();
    let first = soft_state.borrow().term.0;
    let later = |now: &keelson_core::node::SoftState| first + 8 < now.term.0;
    let stood = *soft_state.wait_for(later).await.expect("a member at work");
    assert_ne!(stood.role, Role::Leader);
    let attempts = store.inner.waiters.attempts();
    assert!(attempts <= 4 * waiting, "{attempts} attempts");
    for put in puts {
        put.abort();
        let _ = put.await;
    }
    // What the member proposes about itself still waits.
    let reserved = store.inner.waiters.reserved_bytes();
    assert!((reserved as u64) < 5 * waiting, "{reserved} bytes");
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_client_left_before_its_turn_is_not_proposed() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(Config::single("m1", dir.path())).await;
    let store = store.expect("a member");
    store.ready().await;
    store.put(put()).await.expect("a leader");
    let before = store.inner.shared.node().last;
    let (id, _outcome) = store.inner.waiters.add();
    drop(super::Forget { store: &store, id });
    let command = Bytes::from_static(b"of no use");
    let late = WorkerEvent::from(Input::Propose { id, command });
    store.inner.executor.send(late).expect("a member at work");
    store.put(put()).await.expect("a leader");
    assert_eq!(store.inner.shared.node().last.0, before.0 + 1);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bytes_that_wait_are_too_many_requests() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = without_a_leader(dir.path()).await;
    let waiters = &store.inner.waiters;
    let mut held = Vec::new();
    // What the member proposes about itself has a part, and may give it back meanwhile: then the
    // attempt is repeated.
    for _ in 0..5 {
        let mut bytes = 64 << 20;
        while 0 < bytes {
            match waiters.reserve(bytes) {
                Some(part) => held.push(part),
                None => bytes /= 2,
            }
        }
        if store.put(put()).await == Err(Error::TooManyRequests) {
            drop(held);
            return store.shutdown().await;
        }
    }
    panic!("a put was not refused");
}

/// A burst beyond the limit waits for a moment; only lasting overload is an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_while_the_engine_is_late() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(Config::single("m1", dir.path())).await;
    let store = store.expect("a member");
    store.ready().await;
    let late = |late| WorkerEvent::from(Input::Backlogged(late));
    let executor = &store.inner.executor;
    executor.send(late(true)).expect("a member at work");
    let refused = store.put(put()).await;
    assert!(
        matches!(refused, Err(Error::TooManyRequests)),
        "{refused:?}"
    );
    // This thread may be delayed by seconds: then the attempt is repeated.
    for _ in 0..20 {
        executor.send(late(true)).expect("a member at work");
        let before = store.inner.waiters.attempts();
        let writer = store.clone();
        let waiting = tokio::spawn(async move { writer.put(put()).await });
        while store.inner.waiters.attempts() == before {
            tokio::task::yield_now().await;
        }
        executor.send(late(false)).expect("a member at work");
        match waiting.await.expect("no panic") {
            Ok(_) => return store.shutdown().await,
            Err(error) => assert_eq!(error, Error::TooManyRequests),
        }
    }
    panic!("every write was refused");
}

/// The request was repeated without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_stopped_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = without_a_leader(dir.path()).await;
    let waiting = store.clone();
    let waiting = tokio::spawn(async move { waiting.ready().await });
    store.shutdown().await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
    ended.expect("it ends").expect("no panic");
}

/// A lock's key whose put had no outcome in time could not be deleted: its revision was unknown.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_after_the_timeout_can_be_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(Config::single("m1", dir.path())).await;
    let store = store.expect("a member");
    store.ready().await;
    let command = Command {
        op: Some(Op::Put(put())),
    };
    let command = Bytes::from(command.encode_to_vec());
    let attempt = async |at_timeout| loop {
        let command = command.clone();
        let input = |id| Input::Propose { id, command };
        let now = tokio::time::Instant::now();
        let attempt = store.attempt_or_wait(input, Instant::now(), now, at_timeout);
        if let Err(failed) = attempt.await {
            assert_eq!(failed.error, Error::Timeout);
            return failed.late;
        }
    };
    assert!(attempt(AtTimeout::Forget).await.is_none());
    let late = attempt(AtTimeout::Wait).await.expect("it may be applied");
    let response = late.response().await;
    assert!(matches!(response, Some(Response::Put(_))), "{response:?}");
    store.shutdown().await;
}

/// A put of one byte kept a message of 2 MB, most of it in a field that is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_does_not_keep_its_buffer() {
    struct Buffer(Arc<[u8; 3]>);
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let store = without_a_leader(dir.path()).await;
    let bytes = Arc::new(*b"key");
    let put = PutRequest {
        key: Bytes::from_owner(Buffer(Arc::clone(&bytes))),
        ..PutRequest::default()
    };
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.put(put).await }
    });
    let released = async {
        while 1 < Arc::strong_count(&bytes) {
            tokio::task::yield_now().await;
        }
    };
    let released = tokio::time::timeout(Duration::from_secs(5), released).await;
    assert!(released.is_ok() && !waiting.is_finished());
    waiting.abort();
    store.shutdown().await;
}
