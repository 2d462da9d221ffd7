//! HTTP/2 where it is hard: much at a time, large things, clients and members that misbehave.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response, StatusCode};
use keelson_proxy::MembersFrom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;

use crate::support::{Callee, Fake, Fate, Running, Step, answer, config, frame, until};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

const PATIENCE: Duration = Duration::from_secs(20);

async fn before(member: &Callee) -> Running {
    let mut config = config(&[]);
    config.members = MembersFrom::Clients(vec![format!("http://{}", member.address)]);
    Running::start(config).await.knows(1).await
}

async fn connect(proxy: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(proxy).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn call(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Sends a request whole, and reads the answer whole.
async fn exchange(
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
    // Nobody reads what this one is answered.
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

/// What comes back on a bare connection until it is closed.
async fn told(proxy: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.write_all(sent).await.unwrap();
    let mut told = vec![];
    let _ = time::timeout(PATIENCE, socket.read_to_end(&mut told))
        .await
        .unwrap();
    told
}

#[tokio::test]
async fn nonsense_ends_a_connection_with_a_word() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let cases: [(&[u8], &str); 5] = [
        (b"\0\0\0\0\0\0\0\0\x01", "a connection begins with settings"),
        (b"\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", "has not begun"),
        (
            b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x80",
            "malformed fields",
        ),
        (
            b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x02\x82",
            "odd numbers",
        ),
        (
            b"\0\0\0\x04\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01",
            "a frame is too large",
        ),
    ];
    for (sent, word) in cases {
        let told = told(proxy.address, &[preface, sent].concat()).await;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(word), "{word}: {told}");
    }
    let told = told(proxy.address, b"PRI * HTTP/2.0\r\n\r\nSM\n\n\n\n").await;
    assert!(String::from_utf8_lossy(&told).contains("no preface"));
    // And nobody else is disturbed.
    let answered = exchange(connect(proxy.address).await, call(PUT), Bytes::from("x")).await;
    assert_eq!(answered.body(), b"x");
}

#[tokio::test]
async fn pings_that_are_not_read_do_not_fill_memory() {
    let member = Callee::start(Fate::Echo).await;
    let proxy = before(&member).await;
    let mut socket = TcpStream::connect(proxy.address).await.unwrap();
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    socket.write_all(begin).await.unwrap();
    let pings = b"\0\0\x08\x06\0\0\0\0\0abcdefgh".repeat(10_000);
    let mut taken = 0;
    // The proxy stops reading when its answers are not read, and ends a connection that pings too much; what
    // the kernel holds is a few MB.
    let second = Duration::from_secs(1);
    while let Ok(Ok(())) = time::timeout(second, socket.write_all(&pings)).await {
        taken += pings.len();
        assert!(taken < 100 << 20, "it takes all that comes");
    }
}

#[tokio::test]
async fn bodies_that_do_not_end_cannot_fill_the_proxy() {
    let member = Fake::start(|_| answer("200 OK", "put")).await;
    let proxy = Running::before(&[&member]).await;
    let put = || {
        let uri = format!("http://{}/v2/keys/a", proxy.address);
        Request::put(uri).body(()).unwrap()
    };
    // Each of the nine may be of 4 MiB, all together of 32.
    let body = Bytes::from(vec![b'x'; (4 << 20) - 100_000]);
    let mut coming = vec![];
    let mut answers = tokio::task::JoinSet::new();
    for n in 0..9 {
        let mut sender = connect(proxy.address).await;
        let (answer, mut stream) = sender.send_request(put(), false).unwrap();
        stream.send_data(body.clone(), false).unwrap();
        coming.push(Some((sender, stream)));
        answers.spawn(async move { (n, answer.await.unwrap().status()) });
    }
    let first = time::timeout(PATIENCE, answers.join_next()).await.unwrap();
    let (refused, status) = first.unwrap().unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    coming[refused] = None;
    for (_, stream) in coming.iter_mut().flatten() {
        stream.send_data(Bytes::from("x"), true).unwrap();
    }
    while let Some(answered) = time::timeout(PATIENCE, answers.join_next()).await.unwrap() {
        assert_eq!(answered.unwrap().1, StatusCode::OK);
    }
    // What they took is free again.
    for _ in 0..9 {
        let sender = connect(proxy.address).await;
        let answered = exchange(sender, put(), body.clone()).await;
        assert_eq!(answered.status(), StatusCode::OK);
    }
    proxy.stop().await;
}

/// The head of a call, without the end of the stream.
fn head_of(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    frame(1, 4, stream, &block)
}

/// Sixteen clients that put, until the hostile one has been through. None of their calls may fail.
async fn put_beside(proxy: SocketAddr, hostile: impl Future<Output = ()>) {
    let (done, _) = tokio::sync::watch::channel(false);
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let sender = connect(proxy).await;
        let done = done.subscribe();
        others.spawn(async move {
            while !*done.borrow() {
                let answered = exchange(sender.clone(), call(PUT), Bytes::from("put")).await;
                assert_eq!(answered.body(), b"done", "{:?}", answered.headers());
            }
        });
    }
    hostile.await;
    done.send_replace(true);
    while let Some(ended) = others.join_next().await {
        ended.unwrap();
    }
}

/// Sends each part in its turn, reads what it is told, and returns once the last is answered or the
/// connection is closed.
async fn hostile(proxy: SocketAddr, parts: impl Iterator<Item = Vec<u8>>) {
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    let (mut read, mut write) = socket.split();
    let talk = async {
        let begin = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &frame(4, 0, 0, &[])[..],
        ]
        .concat();
        write.write_all(&begin).await?;
        for part in parts {
            write.write_all(&part).await?;
            tokio::task::yield_now().await;
        }
        write.write_all(&frame(6, 0, 0, b"the last")).await
    };
    let listen = async {
        let mut told = vec![];
        let mut part = [0; 4096];
        let answered = |told: &[u8]| told.windows(8).any(|eight| eight == b"the last");
        while !answered(&told) {
            let kept = told.len().saturating_sub(8);
            told.drain(..kept);
            match read.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(length) => told.extend_from_slice(&part[..length]),
            }
        }
    };
    let (_, listened) = tokio::join!(talk, time::timeout(6 * PATIENCE, listen));
    listened.unwrap();
}

/// S5 of the security review: h2 counts small frames of data against the connection that all calls share.
#[tokio::test]
async fn a_client_that_sends_byte_by_byte_ends_no_call_of_another() {
    let member = Callee::start(Fate::ReplyToCalls("done")).await;
    let proxy = before(&member).await;
    let byte_by_byte = |stream| {
        let bytes = frame(0, 0, stream, b"x").repeat(15);
        [head_of(stream, "/a.B/C"), bytes].concat()
    };
    // 3,000 bytes at a time, and one watch.
    let calls = (0..10_u32).map(|n| {
        let streams = (n * 200..(n + 1) * 200).map(|n| 2 * n + 1);
        streams.flat_map(byte_by_byte).collect()
    });
    put_beside(proxy.address, hostile(proxy.address, calls)).await;
    let watch = std::iter::once(head_of(1, WATCH));
    let watch = watch.chain((0..3000).map(|_| frame(0, 0, 1, b"x")));
    put_beside(proxy.address, hostile(proxy.address, watch)).await;
    assert_eq!(member.ended(), 0);
    proxy.stop().await;
}

/// The same of streams that are given up at once, by several clients in the same moment.
#[tokio::test]
async fn clients_that_give_up_all_they_begin_end_no_call_of_another() {
    let member = Callee::start(Fate::ReplyToCalls("done")).await;
    let proxy = before(&member).await;
    let all = || {
        let given_up = |stream| [head_of(stream, WATCH), frame(3, 0, stream, &[0, 0, 0, 8])];
        let streams = (0..1900_u32).map(|n| 2 * n + 1);
        std::iter::once(streams.flat_map(given_up).flatten().collect())
    };
    let one = || hostile(proxy.address, all());
    let together = async {
        tokio::join!(one(), one(), one(), one());
    };
    put_beside(proxy.address, together).await;
    assert_eq!(member.ended(), 0);
    proxy.stop().await;
}
