//! HTTP/2 where it is hard: much at a time, large things, clients and members that misbehave.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response, StatusCode};
use keelson_proxy::MembersFrom;
use tokio::net::TcpStream;
use tokio::time;

use crate::support::{Callee, Fake, Fate, Running, Step, answer, config, until};

const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn before(member: &Callee) -> Running {
    let mut config = config(&[]);
    config.members = MembersFrom::Clients(vec![format!("http://{}", member.address)]);
    Running::start(config).await.knows(1).await
}

pub(crate) async fn connect(proxy: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(proxy).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn call(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Sends a request whole, and reads the answer whole.
pub(crate) async fn exchange(
    mut sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Response<Vec<u8>> {
    let (response, mut stream) = sender.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(body, true).unwrap();
    }
    let response = time::timeout(PATIENCE, response).await.unwrap().unwrap();
    let (parts, mut body) = response.into_parts();
    let mut read = vec![];
    while let Some(data) = time::timeout(PATIENCE, body.data()).await.unwrap() {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    Response::from_parts(parts, read)
}

/// Each takes a socket to a member, and the process has only so many.
#[tokio::test]
async fn a_connection_has_so_many_waits_and_others_are_served() {
    const WAITS_MAX: usize = 256;
    let member = Fake::start(|seen| match seen.line.contains("wait") {
        true => vec![Step::Hang],
        false => answer("200 OK", "x"),
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let sender = connect(proxy.address).await;
    let wait = || {
        let request = Request::get("http://localhost/v2/keys/a?wait=true");
        request.body(()).unwrap()
    };
    let mut waits = Vec::new();
    for _ in 0..WAITS_MAX {
        let mut sender = sender.clone().ready().await.unwrap();
        waits.push(sender.send_request(wait(), true).unwrap());
    }
    let refused = exchange(sender.clone(), wait(), Bytes::new()).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let get = || {
        let request = Request::get("http://localhost/v2/keys/b");
        request.body(()).unwrap()
    };
    let same = exchange(sender, get(), Bytes::new()).await;
    let other = exchange(connect(proxy.address).await, get(), Bytes::new()).await;
    assert_eq!(
        (same.status(), other.status()),
        (StatusCode::OK, StatusCode::OK)
    );
}

#[tokio::test]
async fn messages_larger_than_all_windows_pass_both_ways() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let sender = connect(proxy.address).await;
    for size in [1, 30_000, 65_535, 65_536, 70_000, 3 << 20] {
        let message: Bytes = (0..size).map(|n| (n % 251) as u8).collect();
        for path in [PUT, WATCH] {
            let answered = exchange(sender.clone(), call(path), message.clone()).await;
            assert!(answered.body() == &message, "{path} {size}");
        }
    }
}

#[tokio::test]
async fn a_thousand_calls_at_a_time_get_their_own_answers() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let mut calls = tokio::task::JoinSet::new();
    let mut senders = vec![];
    for _ in 0..10 {
        senders.push(connect(proxy.address).await);
    }
    for n in 0..1000 {
        let sender = senders[n % 10].clone();
        calls.spawn(async move {
            let text = format!("call {n}");
            let answered = exchange(sender, call(PUT), Bytes::from(text.clone())).await;
            assert_eq!(answered.body(), text.as_bytes());
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    assert_eq!(member.seen().len(), 1000);
}

/// Together they are more than the connection's window, and none of them is whole.
#[tokio::test]
async fn many_messages_that_come_in_turns_all_come_to_their_end() {
    let member = Callee::start(Fate::Reply("done")).await;
    let proxy = before(&member).await;
    let mut sender = connect(proxy.address).await;
    let mut calls = vec![];
    for _ in 0..100 {
        let (response, mut stream) = sender.send_request(call(PUT), false).unwrap();
        stream
            .send_data(Bytes::from(vec![1; 16_000]), false)
            .unwrap();
        calls.push((response, stream));
        sender = sender.ready().await.unwrap();
    }
    time::sleep(Duration::from_millis(200)).await;
    for (_, stream) in &mut calls {
        stream.send_data(Bytes::from(vec![2; 8000]), true).unwrap();
    }
    for (response, _stream) in calls {
        let mut body = time::timeout(PATIENCE, response)
            .await
            .unwrap()
            .unwrap()
            .into_body();
        let data = time::timeout(PATIENCE, body.data()).await.unwrap();
        assert_eq!(data.unwrap().unwrap(), "done");
    }
}

/// More than is kept of a client's bodies to send them again: what cannot be kept goes as it comes.
#[tokio::test]
async fn many_large_calls_at_a_time_are_not_refused() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let sender = connect(proxy.address).await;
    let message = Bytes::from(vec![7; 60_000]);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (sender, message) = (sender.clone(), message.clone());
        calls.spawn(async move {
            let sender = sender.ready().await.unwrap();
            let answered = exchange(sender, call(PUT), message.clone()).await;
            assert!(answered.body() == &message, "{:?}", answered.headers());
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn what_members_would_end_a_connection_for_does_not_reach_them() {
    let member = Callee::start(Fate::Reply("kvs")).await;
    let proxy = before(&member).await;
    let sender = connect(proxy.address).await;
    let mut wrong_length = call(RANGE);
    let one = "1".parse().unwrap();
    wrong_length.headers_mut().insert("content-length", one);
    let (response, mut stream) = sender.clone().send_request(wrong_length, false).unwrap();
    // h2 itself does not hold us to it before the end.
    stream.send_data(Bytes::from("x"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    assert!(!member.seen()[0].headers.contains_key("content-length"));
    let long = format!("/a.B/{}", "x".repeat(2000));
    let (response, _) = sender.clone().send_request(call(&long), true).unwrap();
    assert!(response.await.is_err());
    assert_eq!(member.seen().len(), 1);
    let answered = exchange(sender, call(RANGE), Bytes::from("x")).await;
    assert_eq!(answered.body(), b"kvs");
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let mut sender = connect(proxy.address).await;
    // The answer to this one is not read.
    let (stuck, mut stream) = sender.send_request(call(WATCH), false).unwrap();
    stream
        .send_data(Bytes::from(vec![0; 1 << 20]), false)
        .unwrap();
    let _stuck = time::timeout(PATIENCE, stuck).await.unwrap().unwrap();
    // On a connection of their own, since the stuck one may fill the window of this.
    let other = connect(proxy.address).await;
    for n in 0..100 {
        let text = Bytes::from(format!("call {n}"));
        let answered = exchange(other.clone(), call(RANGE), text.clone()).await;
        assert_eq!(answered.body(), &text);
    }
}

#[tokio::test]
async fn what_is_no_call_is_served_whatever_it_is() {
    let member = Fake::start(|seen| {
        let body = seen.head.split("\r\n\r\n").nth(1).unwrap_or_default();
        answer(
            "201 Created",
            &format!("{} {body}", seen.head.lines().next().unwrap()),
        )
    })
    .await;
    let proxy = Running::before(&[&member]).await;
    let sender = connect(proxy.address).await;
    let request = |method: &str, path: &str| {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", proxy.address))
            .body(())
            .unwrap()
    };
    let put = exchange(
        sender.clone(),
        request("PUT", "/v2/keys/a"),
        Bytes::from("value=x"),
    )
    .await;
    assert_eq!(put.status(), StatusCode::CREATED);
    assert!(put.body().starts_with(b"PUT /v2/keys/a HTTP/1.1"));
    assert!(
        member.seen()[0].has("content-length: 7"),
        "{}",
        member.seen()[0].head
    );
    let head = exchange(sender.clone(), request("HEAD", "/v2/keys/a"), Bytes::new()).await;
    assert_eq!((head.status(), head.body().len()), (StatusCode::CREATED, 0));
    let own = exchange(sender.clone(), request("GET", "/metrics"), Bytes::new()).await;
    assert!(String::from_utf8_lossy(own.body()).contains("etcd_proxy_requests_total"));
    let large = Bytes::from(vec![b'x'; (10 << 20) + 1]);
    let refused = exchange(sender.clone(), request("PUT", "/v2/keys/a"), large).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // The connection goes on.
    let get = exchange(
        sender,
        request("GET", "/v2/keys/b?quorum=true"),
        Bytes::new(),
    )
    .await;
    assert!(
        get.body()
            .starts_with(b"GET /v2/keys/b?quorum=true HTTP/1.1")
    );
}

#[tokio::test]
async fn too_many_fields_are_refused_and_the_connection_goes_on() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let socket = TcpStream::connect(proxy.address).await.unwrap();
    let (sender, connection) = h2::client::Builder::new().handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut request = call(RANGE);
    let long = "x".repeat(70_000).parse().unwrap();
    request.headers_mut().insert("token", long);
    let answered = exchange(sender.clone(), request, Bytes::from("x")).await;
    assert_eq!(
        answered.status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let answered = exchange(sender, call(RANGE), Bytes::from("x")).await;
    assert_eq!(answered.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_proxy_that_goes_down_ends_what_is_in_flight_first() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let mut sender = connect(proxy.address).await;
    let (response, mut stream) = sender.send_request(call(WATCH), false).unwrap();
    stream.send_data(Bytes::from("one"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "one");
    let stopping = tokio::spawn(proxy.stop());
    until("it takes no new calls", async || {
        sender.clone().ready().await.is_err()
    })
    .await;
    assert!(!stopping.is_finished());
    stream.send_data(Bytes::from("two"), true).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "two");
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
}
