//! Clients that do not read their answers: 1,000 ranges of 400 KB used 421 MB of a member.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_port::Drain;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use keelson_proto::v3electionpb::LeaderRequest;
use prost::Message;
use tonic::service::Routes;
use tower::ServiceExt;

use super::fake::Fake;
use super::{Port, within};
use crate::v3::Services;
use crate::{Backend, Limits, More, Unread, gateway};

const KIB: usize = 1024;

/// Room for one and a half answers that list five keys of 40 KiB: such large answers have a
/// quarter of it.
const ROOM_BYTES: usize = 1200 * KIB;

/// Room for twenty answers of 400 KiB; three quarters of it are limited for each connection.
const SHARED_BYTES: usize = 8192 * KIB;

/// The flow-control window of each answer. All fit into the connection's, so that none blocks
/// another.
const WINDOW_BYTES: u32 = 65_535;

async fn fill(fake: &Fake) {
    for key in ["a", "b", "c", "d", "e"] {
        put(fake, key).await;
    }
}

async fn put(fake: &Fake, key: &str) {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; 40 * KIB].into(),
        ..PutRequest::default()
    };
    fake.put(put).await.unwrap();
}

async fn crowded_port() -> Port {
    port_within(ROOM_BYTES).await
}

async fn port_within(bytes_max: usize) -> Port {
    let port = Port::serving(move |fake, listeners, shutdown| async move {
        let more = move |_: &_| More::<()> {
            unread: Unread::within(bytes_max),
            ..More::default()
        };
        crate::serve_clients(fake, listeners, Limits::default(), more, shutdown).await
    })
    .await;
    fill(&port.fake).await;
    port
}

fn all() -> RangeRequest {
    RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        ..RangeRequest::default()
    }
}

type Sender = SendRequest<Full<Bytes>>;

async fn client(port: &Port) -> Sender {
    let io = TokioIo::new(port.connect().await);
    // What it does not read stays at the server.
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(10 * WINDOW_BYTES)
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(connection);
    send
}

async fn call(send: &mut Sender, port: &Port, path: &str, message: &impl Message) -> Called {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut framed).unwrap();
    let request = Request::post(format!("{}{path}", port.url()))
        .header("content-type", "application/grpc")
        .body(Full::new(framed.freeze()))
        .unwrap();
    Called(within(send.send_request(request)).await.unwrap())
}

/// An answer whose head has arrived.
struct Called(Response<Incoming>);

impl Called {
    /// The status of a call that failed at once; other calls have theirs in the trailers.
    fn refusal(&self) -> Option<(&str, &str)> {
        let field = |name| self.0.headers().get(name)?.to_str().ok();
        Some((field("grpc-status")?, field("grpc-message")?))
    }

    /// Reads the whole answer. Returns its length.
    async fn read(self) -> usize {
        let whole = within(self.0.into_body().collect()).await.unwrap();
        let status = whole
            .trailers()
            .and_then(|fields| fields.get("grpc-status"));
        assert_eq!(status.map(|status| status.as_bytes()), Some(&b"0"[..]));
        whole.to_bytes().len()
    }
}

/// As in etcd, whose table of codes lacks this error.
const CROWDED: Option<(&str, &str)> = Some(("2", "etcdserver:%20too%20many%20requests"));

/// Repeats the request until it is refused, without reading the answers.
async fn crowd(send: &mut Sender, port: &Port, path: &str) -> Vec<Called> {
    let mut unread = Vec::new();
    loop {
        let called = call(send, port, path, &all()).await;
        if called.refusal().is_some() {
            assert_eq!(called.refusal(), CROWDED, "{path}");
            return unread;
        }
        unread.push(called);
        assert!(unread.len() < 30, "{path}: not bounded");
    }
}

#[tokio::test]
async fn answers_that_are_not_read_are_bounded_over_all_clients() {
    let port = crowded_port().await;
    for path in ["/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream"] {
        let (mut one, mut other) = (client(&port).await, client(&port).await);
        let mut unread = crowd(&mut one, &port, path).await;
        unread.extend(crowd(&mut other, &port, path).await);
        assert!(unread.len() < 10, "{path}: not bounded");
        let mut small = all();
        small.count_only = true;
        let small = call(&mut other, &port, "/etcdserverpb.KV/Range", &small).await;
        assert!(small.read().await < KIB);
        for called in unread {
            assert!(200 * KIB < called.read().await);
        }
        let again = call(&mut other, &port, path, &all()).await;
        assert!(
            200 * KIB < again.read().await,
            "{path}: there is room again"
        );
    }
}

#[tokio::test]
async fn clients_that_read_nothing_leave_room_for_others() {
    let port = port_within(SHARED_BYTES).await;
    for key in ["f", "g", "h", "i", "j"] {
        put(&port.fake, key).await;
    }
    let mut senders = Vec::new();
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut hog = client(&port).await;
        unread.push(crowd(&mut hog, &port, "/etcdserverpb.KV/Range").await);
        senders.push(hog);
    }
    assert_eq!(unread[0].len(), 5, "a third of what has shares");
    let mut other = client(&port).await;
    let called = call(&mut other, &port, "/etcdserverpb.KV/Range", &all()).await;
    assert_eq!(called.refusal(), None);
    assert!(400 * KIB < called.read().await);
    drop(unread);
}

/// Each observer that read nothing held its own copy of the leader's value.
#[tokio::test]
async fn leaders_that_observers_do_not_read_are_bounded() {
    let port = crowded_port().await;
    port.fake.set(|state| state.takes_large = true);
    let leader = PutRequest {
        key: "e/1".into(),
        value: vec![b'v'; 200 * KIB].into(),
        ..PutRequest::default()
    };
    port.fake.put(leader).await.unwrap();
    let observe = async |client: &mut Sender| {
        let election = LeaderRequest { name: "e".into() };
        let path = "/v3electionpb.Election/Observe";
        call(client, &port, path, &election).await.0.into_body()
    };
    let (mut one, mut other) = (client(&port).await, client(&port).await);
    let mut unread = observe(&mut one).await;
    // The rest does not fit into the window.
    assert!(within(unread.frame()).await.unwrap().unwrap().is_data());
    let crowded = within(observe(&mut other).await.collect()).await.unwrap();
    let trailers = crowded.trailers().unwrap();
    assert_eq!(
        trailers["grpc-message"],
        "etcdserver:%20too%20many%20requests"
    );
    drop((unread, one));
    let mut read = 0;
    let mut again = observe(&mut other).await;
    while read < 200 * KIB {
        let piece = within(again.frame()).await.unwrap().unwrap();
        read += piece.into_data().expect("there is room again").len();
    }
}

/// Each stream read its own 256 KiB of the history, and kept them.
#[tokio::test]
async fn history_that_watchers_do_not_read_is_bounded() {
    let port = crowded_port().await;
    let (mut one, mut other) = (client(&port).await, client(&port).await);
    let mut unread = watch(&mut one, &port, "a", 1).await;
    // The rest does not fit into the window.
    while within(unread.frame())
        .await
        .unwrap()
        .unwrap()
        .data_ref()
        .unwrap()
        .len()
        < KIB
    {}
    let mut history = watch(&mut other, &port, "a", 1).await;
    let mut events = watch(&mut other, &port, "a", 0).await;
    let created = within(history.frame()).await.unwrap().unwrap();
    assert!(created.data_ref().unwrap().len() < KIB, "it is created");
    within(events.frame()).await.unwrap().unwrap();
    assert!(history.frame().now_or_never().is_none());
    // New events are not held up.
    put(&port.fake, "x").await;
    assert!(within(events.frame()).await.is_some());
    assert!(history.frame().now_or_never().is_none());
    drop((unread, one));
    assert!(within(history.frame()).await.is_some());
}

/// Watches the keys from this one on, from a revision on.
async fn watch(send: &mut Sender, port: &Port, key: &'static str, from: i64) -> Incoming {
    let create = WatchCreateRequest {
        key: key.into(),
        range_end: "z".into(),
        start_revision: from,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    call(send, port, "/etcdserverpb.Watch/Watch", &request)
        .await
        .0
        .into_body()
}

/// A client that disconnects does not keep its share.
#[tokio::test]
async fn a_client_that_leaves_gives_its_room_back() {
    let port = crowded_port().await;
    let path = "/etcdserverpb.KV/Range";
    let mut one = client(&port).await;
    let unread = call(&mut one, &port, path, &all()).await;
    let refused = call(&mut one, &port, path, &all()).await;
    assert_eq!(refused.refusal(), CROWDED);
    drop((unread, refused, one));
    let mut other = client(&port).await;
    let again = async {
        loop {
            let called = call(&mut other, &port, path, &all()).await;
            if called.refusal().is_none() {
                return called.read().await;
            }
        }
    };
    assert!(200 * KIB < within(again).await);
}

/// "Too many requests" would mean that nothing was deleted.
#[tokio::test]
async fn a_change_whose_answer_has_no_room_is_unknown() {
    let port = crowded_port().await;
    let mut one = client(&port).await;
    let _unread = call(&mut one, &port, "/etcdserverpb.KV/Range", &all()).await;
    let delete = DeleteRangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        prev_kv: true,
    };
    let deleted = call(&mut one, &port, "/etcdserverpb.KV/DeleteRange", &delete).await;
    let unknown = ("14", "etcdserver:%20request%20timed%20out");
    assert_eq!(deleted.refusal(), Some(unknown));
    assert_eq!(port.fake.range(all()).await.unwrap().count, 0);
}

#[tokio::test]
async fn the_gateways_answers_are_bounded_too() {
    let fake = Fake::new("127.0.0.1:1".parse().unwrap());
    fill(&fake).await;
    let router: Router = gateway::router(Arc::new(Services::new(
        fake,
        Unread::within(ROOM_BYTES),
        Default::default(),
        Routes::default(),
        Drain::default(),
    )));
    let range = || async {
        let body = Body::from(r#"{"key":"YQ==","range_end":"eg=="}"#);
        let request = Request::post("/v3/kv/range").body(body).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let unread = range().await;
    assert_eq!(unread.status(), StatusCode::OK);
    assert_eq!(range().await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    drop(unread);
    assert_eq!(range().await.status(), StatusCode::OK);
}
