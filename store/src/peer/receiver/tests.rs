//! Snapshots from senders that stop, are slow or are replaced; calls of unknown hosts; and proofs.

use std::sync::atomic::{AtomicUsize, Ordering};

use keelson_core::ClusterId;
use keelson_proto::peer::{Rows, SnapshotEnd};
use parking_lot::Mutex;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

struct NoInbox;

impl Inbox for NoInbox {
    fn deliver(&self, _from: MemberId, _messages: Vec<PeerMessage>) {}

    fn membership_of(&self, _member: MemberId) -> Membership {
        Membership::Member
    }

    fn peer_urls(&self, _member: MemberId) -> Vec<Url> {
        Vec::new()
    }

    fn note_unknown(&self, _member: MemberId) {}

    async fn hash_kv(&self, _revision: i64) -> Result<HashKvResponse, Status> {
        Ok(HashKvResponse::default())
    }

    fn token_used(&self, token: &TokenSignature) -> Option<Duration> {
        (token == &[7; 32]).then_some(Duration::from_secs(9))
    }

    fn members(&self) -> MembersResponse {
        MembersResponse {
            member_id: CALLER.from.0,
            ..MembersResponse::default()
        }
    }
}

/// A sink that counts chunks, and can evict the present snapshot.
#[derive(Default)]
struct Counter {
    pieces: AtomicUsize,
    finished: AtomicUsize,
    evict: Mutex<Option<oneshot::Sender<()>>>,
}

impl SnapshotSink for Counter {
    type Staging = ();

    async fn begin(&self, _offer: RaftMessage) -> Result<((), Evicted), Status> {
        let (evict, evicted) = oneshot::channel();
        *self.evict.lock() = Some(evict);
        Ok(((), evicted))
    }

    async fn push(&self, (): (), _part: snapshot_chunk::Part) -> Result<(), Status> {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn finish(&self, (): ()) -> Result<(), Status> {
        self.finished.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The key of the service's incarnation.
const KEY: u64 = 9;

const CALLER: Introduction = Introduction {
    cluster: ClusterId(1),
    from: MemberId(3),
    to: MemberId(2),
    incarnation: 1,
    key: 5,
};

fn service() -> PeerService<NoInbox, Counter> {
    let gate = CallerGate::new(CALLER.cluster, CALLER.to);
    assert!(gate.proven(&CALLER).is_ok());
    PeerService::new(gate, NoInbox, Counter::default(), KEY)
}

fn chunk(part: snapshot_chunk::Part) -> Result<SnapshotChunk, Status> {
    Ok(SnapshotChunk { part: Some(part) })
}

fn offer() -> Result<SnapshotChunk, Status> {
    chunk(snapshot_chunk::Part::Offer(RaftMessage {
        from: CALLER.from.0,
        ..RaftMessage::default()
    }))
}

fn rows() -> Result<SnapshotChunk, Status> {
    chunk(snapshot_chunk::Part::Rows(Rows::default()))
}

fn end() -> Result<SnapshotChunk, Status> {
    chunk(snapshot_chunk::Part::End(SnapshotEnd::default()))
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_falls_silent_is_given_up() {
    for pieces in [vec![], vec![offer()], vec![offer(), rows()]] {
        let service = service();
        let silent = tokio_stream::iter(pieces).chain(tokio_stream::pending());
        let refused = service
            .receive(&CALLER, silent)
            .await
            .expect_err("given up");
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded, "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_transfer_may_take_as_long_as_it_goes_on() {
    let service = service();
    let (pieces, slow) = tokio::sync::mpsc::channel(1);
    let sending = async {
        let _ = pieces.send(offer()).await;
        for _ in 0..100 {
            tokio::time::sleep(CHUNK_TIMEOUT - Duration::from_secs(1)).await;
            let _ = pieces.send(rows()).await;
        }
        let _ = pieces.send(end()).await;
    };
    let slow = ReceiverStream::new(slow);
    let (received, ()) = tokio::join!(service.receive(&CALLER, slow), sending);
    assert!(received.is_ok(), "{received:?}");
    assert_eq!(service.sink.pieces.load(Ordering::Relaxed), 101);
    assert_eq!(service.sink.finished.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_ends_when_it_is_evicted() {
    let service = service();
    let silent = tokio_stream::iter([offer(), rows()]).chain(tokio_stream::pending());
    let evicting = async {
        tokio::task::yield_now().await;
        let evict = service.sink.evict.lock().take();
        let _ = evict.expect("it has begun").send(());
    };
    let (refused, ()) = tokio::join!(service.receive(&CALLER, silent), evicting);
    assert_eq!(refused.expect_err("evicted").code(), tonic::Code::Aborted);
}

/// A request for the member list, with that many bytes in an undefined field.
fn question(bytes: usize) -> http::Request<tonic::body::Body> {
    let mut message = vec![0x7a];
    prost::encoding::encode_varint(bytes as u64, &mut message);
    message.resize(message.len() + bytes, 0);
    let length = u32::try_from(message.len()).expect("short");
    let framed = [&[0][..], &length.to_be_bytes(), &message].concat();
    let body = http_body_util::Full::from(framed);
    let call = http::Request::post("/keelson_peer.Peer/Members");
    let call = call.header(http::header::CONTENT_TYPE, "application/grpc");
    call.body(tonic::body::Body::new(body)).expect("a request")
}

/// A stranger could make each of thousands of streams hold 64 MiB, since the call needs no
/// introduction.
#[tokio::test]
async fn a_strangers_question_is_small() {
    let mut routes = crate::peer::routes(service());
    for (bytes, expected) in [(0, None), (64 << 10, Some("11"))] {
        let answer = tower::Service::call(&mut routes, question(bytes)).await;
        let Ok(answer) = answer;
        let status = answer.headers().get("grpc-status");
        assert_eq!(status.and_then(|it| it.to_str().ok()), expected);
    }
}

/// The silent URL came first and used up all the time.
#[tokio::test]
async fn a_member_is_verified_although_one_of_its_urls_is_silent() {
    let listen = || tokio::net::TcpListener::bind("127.0.0.1:0");
    let (silent, listener) = (listen().await.unwrap(), listen().await.unwrap());
    let urls = [&silent, &listener].map(|listener| {
        let port = listener.local_addr().expect("its address").port();
        Url::http("127.0.0.1", port)
    });
    let routes = crate::peer::routes(service());
    let (over, end) = oneshot::channel::<()>();
    let serving = tokio::spawn(crate::edge::serve_founder(vec![listener], routes, async {
        let _ = end.await;
    }));
    let caller = Introduction { key: KEY, ..CALLER };
    let proofs = Proofs::default();
    let verified = proofs.prove(&caller, &urls).await;
    assert!(verified.is_ok(), "{verified:?}");
    let stranger = proofs.prove(&CALLER, &urls[1..]).await;
    let refused = stranger.expect_err("another key");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    drop(over);
    serving.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn the_last_use_of_a_token_is_answered_beside_the_members() {
    let service = service();
    let query = |token: &[u8]| {
        let mut request = Request::new(MembersRequest::default());
        let token = MetadataValue::from_bytes(token);
        request.metadata_mut().insert_bin(TOKEN, token);
        service.members(request)
    };
    let seen = query(&[7; 32]).await.expect("it is answered");
    assert_eq!(seen.metadata().get(TOKEN_USED).unwrap(), "9000000000");
    for token in [&[8; 32][..], &[7; 31], &[]] {
        let unseen = query(token).await.expect("it is answered");
        assert!(!unseen.metadata().contains_key(TOKEN_USED), "{token:?}");
    }
}
