//! Clients of HTTP/2 that have no library, and what they do to others and to members.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;

use crate::multiplexed::{PATIENCE, PUT, WATCH, before, call, connect, exchange};
use crate::support::{Callee, Fake, Fate, Running, answer, frame, until};

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
    // Other clients are served.
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
    // The proxy stops reading when its answers are not read, and ends a connection that pings too
    // much; what the kernel holds is a few MB.
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
    head_with(stream, path, &[])
}

/// The same with more fields.
fn head_with(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in fields.iter().chain(more) {
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

/// Sends each part in its turn, reads the answers, and returns once the last is answered or the
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

/// S5 of the security review: h2 counts small frames of data against the connection that all calls
/// share.
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

/// A window that grows by nothing, and fields in the middle of a call: its member must not go on
/// with it.
#[tokio::test]
async fn a_call_that_is_reset_for_its_client_is_given_up_at_its_member() {
    let wrong = [
        frame(8, 0, 1, &[0; 4]),
        head_of(1, WATCH),
        // Its body is longer than its Content-Length.
        frame(0, 0, 1, b"more"),
    ];
    for (way, wrong) in wrong.into_iter().enumerate() {
        let member = Callee::start(Fate::Hang).await;
        let proxy = before(&member).await;
        let mut socket = TcpStream::connect(proxy.address).await.unwrap();
        let mut fields = vec![];
        if way == 2 {
            fields.push(("content-length", "3"));
        }
        let begin = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &frame(4, 0, 0, &[])[..],
            &head_with(1, WATCH, &fields),
        ]
        .concat();
        socket.write_all(&begin).await.unwrap();
        until("the member has the call", async || member.seen().len() == 1).await;
        socket.write_all(&wrong).await.unwrap();
        until("the member gives it up", async || member.given_up() == 1).await;
        assert_eq!(member.ended(), 0);
        proxy.stop().await;
    }
}
