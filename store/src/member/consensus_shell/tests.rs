//! Requests that cannot be sent to the leader, and snapshot transfers when the member stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_core::node::{APPEND, Refusal};
use keelson_proto::etcdserverpb::{HashKvRequest, HashKvResponse};
use keelson_proto::peer::peer_server::{Peer, PeerServer};
use keelson_proto::peer::{
    Envelope, MembersRequest, MembersResponse, RaftSnapshotMeta, SnapshotReceived, StreamClosed,
    peer_message,
};
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::config::Url;
use crate::member::applier_shell::ApplierShell;
use crate::member::fatal::tests::{ME, member, returning};
use crate::member::worker::Worker;
use crate::peer::PeerAddress;

const LEADER: MemberId = MemberId(2);

fn from_leader(message: peer_message::Message) -> WorkerEvent {
    let message = PeerMessage {
        message: Some(message),
    };
    WorkerEvent::Peer(LEADER, vec![message], 0)
}

/// A follower that has no link to its leader yet.
fn follower(
    executor: &Arc<MemberExecutor>,
) -> (Arc<Waiters>, crossbeam::channel::Receiver<LogWork>) {
    let (consensus, applier, log_jobs) = member(executor, &returning().0);
    let ApplierShell { waiters, .. } = &applier;
    let waiters = Arc::clone(waiters);
    executor.start(Worker::new(consensus, applier));
    let append = RaftMessage {
        kind: APPEND,
        to: ME.0,
        from: LEADER.0,
        term: 2,
        log_term: 1,
        index: 1,
        ..RaftMessage::default()
    };
    let append = from_leader(peer_message::Message::Raft(append));
    executor.send(append).expect("it runs");
    (waiters, log_jobs)
}

/// The client waited for seven seconds, and could not see that the request was not proposed.
#[tokio::test]
async fn a_request_that_cannot_be_handed_over_is_refused_at_once() {
    let executor = MemberExecutor::new();
    let (waiters, _log_jobs) = follower(&executor);
    let (id, mut outcome) = waiters.add();
    let command = Bytes::from_static(b"a command");
    let propose = WorkerEvent::from(Input::Propose { id, command });
    executor.send(propose).expect("it runs");
    // The round left an event, which the next round takes.
    executor.drive_unless_busy();
    let outcome = outcome.try_recv().expect("an outcome");
    assert!(
        matches!(outcome, Outcome::Refused(Refusal::LeaderChanged)),
        "{outcome:?}"
    );
}

/// A peer that reads a snapshot without end.
struct Endless(Arc<AtomicBool>);

#[tonic::async_trait]
impl Peer for Endless {
    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        unreachable!("nothing compares hashes here")
    }

    async fn stream(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<StreamClosed>, Status> {
        std::future::pending().await
    }

    async fn snapshot(
        &self,
        _: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotReceived>, Status> {
        self.0.store(true, Ordering::SeqCst);
        std::future::pending().await
    }

    async fn members(
        &self,
        _: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.expect("it comes about");
}

/// The transfer outlived the member and kept the engine open, so the directory could not be
/// opened again.
#[tokio::test]
async fn a_snapshot_on_its_way_ends_with_the_member() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let begun = Arc::new(AtomicBool::new(false));
    let routes = tonic::service::Routes::new(PeerServer::new(Endless(Arc::clone(&begun))));
    let (over, end) = oneshot::channel::<()>();
    let serving = tokio::spawn(crate::edge::serve_founder(vec![listener], routes, async {
        let _ = end.await;
    }));

    let executor = MemberExecutor::new();
    let (consensus, applier, _log_jobs) = member(&executor, &returning().0);
    consensus.outbox.update(&[PeerAddress {
        id: LEADER,
        name: "m2".to_owned(),
        urls: vec![Url::http("127.0.0.1", port)],
    }]);
    let links = consensus.outbox.clone();
    let engine = Arc::downgrade(&applier.engine);
    let capture = applier.applier.state().capture().expect("a healthy engine");
    let offer = RaftMessage {
        snapshot: Some(RaftSnapshotMeta {
            index: capture.mark().index,
            ..RaftSnapshotMeta::default()
        }),
        ..RaftMessage::default()
    };
    consensus.send_snapshot(LEADER, offer, capture);
    until(|| begun.load(Ordering::SeqCst)).await;
    executor.start(Worker::new(consensus, applier));
    drop(executor.stop());
    links.close().await;
    drop(links);
    assert_eq!(engine.strong_count(), 0, "its engine is free");
    drop(over);
    serving.await.expect("no panic").expect("no error");
}
