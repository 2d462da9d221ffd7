//! A client's connection, whatever the client says.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use keelson_port::{Limits, Multiplexed, hpack};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use super::call::{Asked, Call};
use super::client;
use super::driver::{Driver, Side};
use super::frame::{self, Code, Event, Frames, PREFACE};
use super::other::Other;
use super::session::{End, Owner, Session};
use crate::calls::Kind;
use crate::config::{MembersFrom, ProxyConfig};
use crate::proxy::Proxy;

/// One that knows no member, and does not wait for one.
fn proxy() -> Arc<Proxy> {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.request_timeout = Duration::ZERO;
    Arc::new(Proxy::new(config, vec![]))
}

fn settings() -> BytesMut {
    let mut sent = BytesMut::from(&PREFACE[..]);
    frame::put_settings(&mut sent, &[]);
    sent
}

fn call(path: &str, more: &[(&str, &str)]) -> BytesMut {
    let mut block = BytesMut::new();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "http://nonsense"),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in fields.iter().chain(more) {
        hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
    }
    block
}

/// Serves a client's connection until it ends.
async fn serve(proxy: Arc<Proxy>, socket: DuplexStream) {
    let limits = Limits::default();
    let mut never = std::pin::pin!(std::future::pending());
    let connection = Multiplexed {
        socket: Box::new(socket),
        client: ([127, 0, 0, 1], 1).into(),
        limits: &limits,
        begun: never.as_mut(),
    };
    client::serve(proxy, connection).await;
}

/// What a client that says this and hangs up is told.
async fn told(sent: &[u8]) -> Vec<u8> {
    // Refusals come from tasks of their own.
    told_in(Duration::from_millis(20), sent).await
}

/// The same, of a client that hangs up after so long.
async fn told_in(time: Duration, sent: &[u8]) -> Vec<u8> {
    told_by_in(proxy(), time, sent).await
}

/// The same by a certain proxy.
async fn told_by(proxy: Arc<Proxy>, sent: &[u8]) -> Vec<u8> {
    told_by_in(proxy, Duration::from_millis(20), sent).await
}

async fn told_by_in(proxy: Arc<Proxy>, time: Duration, sent: &[u8]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(8 << 20);
    let serving = serve(proxy, server);
    let talking = async {
        client.write_all(sent).await?;
        tokio::time::sleep(time).await;
        client.shutdown().await?;
        let mut told = vec![];
        client.read_to_end(&mut told).await?;
        io::Result::Ok(told)
    };
    let ((), told) = tokio::join!(serving, talking);
    told.unwrap()
}

/// The same, as far as streams are concerned: which ended how.
async fn ends(sent: &[u8]) -> Vec<String> {
    ends_of(&told(sent).await)
}

fn ends_of(told: &[u8]) -> Vec<String> {
    let mut ends = vec![];
    let heard = Frames::default().take(told, |event| {
        match event {
            Event::Headers { stream, end, .. } => ends.push(format!("fields {stream} {end}")),
            Event::Reset { stream, code } => ends.push(format!("reset {stream} {}", code.0)),
            Event::GoAway { code, .. } => ends.push(format!("goodbye {}", code.0)),
            _ => {}
        }
        Ok(())
    });
    heard.unwrap();
    ends
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_malformed_are_reset_and_the_others_are_not() {
    let mut sent = settings();
    let malformed = [
        ("Token", "x"),
        ("to ken", "x"),
        ("token", "x\r\nhost: y"),
        ("token", "\0"),
        (":path", "/again"),
        (":status", "200"),
    ];
    for (place, field) in malformed.iter().enumerate() {
        let stream = 2 * place as u32 + 1;
        frame::put_headers(&mut sent, stream, [&call("/a.B/C", &[*field]), &[]], true);
    }
    frame::put_headers(&mut sent, 101, [&call("no path", &[]), &[]], true);
    frame::put_headers(
        &mut sent,
        103,
        [&call("/a.B/C", &[("token", "x")]), &[]],
        true,
    );
    let expected = [1, 3, 5, 7, 9, 11, 101].map(|stream| format!("reset {stream} 1"));
    let ends = ends(&sent).await;
    assert_eq!(ends[..7], expected);
    assert_eq!(ends[7..], ["fields 103 true"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_members_is_refused_whether_or_not_it_has_come_whole() {
    for whole in [true, false] {
        let mut sent = settings();
        frame::put_headers(&mut sent, 1, [&call("/a.B/C", &[]), &[]], whole);
        let ends = ends(&sent).await;
        assert_eq!(ends[0], "fields 1 true");
        assert_eq!(ends.len(), if whole { 1 } else { 2 }, "{ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_not_waited_for_for_ever() {
    let mut sent = settings();
    let mut put = BytesMut::new();
    for (name, value) in [
        (":method", "PUT"),
        (":scheme", "http"),
        (":path", "/v2/keys/a"),
    ] {
        hpack::put_field(&mut put, name.as_bytes(), value.as_bytes(), false);
    }
    frame::put_headers(&mut sent, 1, [&put, &[]], false);
    frame::put_data(&mut sent, 1, b"value=", false);
    let soon = told_in(Duration::from_secs(59), &sent).await;
    assert_eq!(ends_of(&soon), [""; 0]);
    let late = told_in(Duration::from_secs(61), &sent).await;
    assert_eq!(ends_of(&late), ["fields 1 true", "reset 1 0"]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_everything_at_once_is_sent_away() {
    for (count, expected) in [(2000, None), (2001, Some("goodbye 11"))] {
        let mut sent = settings();
        for n in 0..count {
            frame::put_headers(&mut sent, 2 * n + 1, [&call("/a.B/C", &[]), &[]], false);
            frame::put_reset(&mut sent, 2 * n + 1, Code::CANCEL);
        }
        assert_eq!(ends(&sent).await.last().map(String::as_str), expected);
    }
}

/// One whose members are away, and whose patience is long.
fn waiting_proxy() -> Arc<Proxy> {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.request_timeout = Duration::from_secs(3600);
    Arc::new(Proxy::new(config, vec![]))
}

/// Says all that to a proxy, and calls `then` while the connection is still there.
async fn while_open(proxy: &Arc<Proxy>, sent: &[u8], then: impl FnOnce(&[u8])) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve(Arc::clone(proxy), server));
    let (mut read, mut write) = tokio::io::split(client);
    let listening = tokio::spawn(async move {
        let mut told = vec![];
        // Until the last word that the test waits for.
        while !told.windows(8).any(|eight| eight == b"the last") {
            if read.read_buf(&mut told).await.unwrap_or(0) == 0 {
                break;
            }
        }
        (read, told)
    });
    write.write_all(sent).await.unwrap();
    let mut last = BytesMut::new();
    frame::put_ping(&mut last, *b"the last", false);
    write.write_all(&last).await.unwrap();
    let (read, told) = listening.await.unwrap();
    then(&told);
    drop((read, write));
    serving.await.unwrap();
}

/// S3 of the security review: 141 bytes a stream were 62 KB.
#[tokio::test(start_paused = true)]
async fn a_bomb_of_fields_takes_a_bounded_room_and_gives_it_back() {
    let proxy = waiting_proxy();
    let mut sent = settings();
    let large = "v".repeat(3900);
    let plain = call("/etcdserverpb.KV/Range", &[]);
    // Into the table once, and named 15 times a stream.
    let mut block = BytesMut::from(&plain[..]);
    block.put_slice(b"\x40\x01x\x7f\xbd\x1d");
    block.put_slice(large.as_bytes());
    frame::put_headers(&mut sent, 1, [&block, &[]], false);
    for n in 1..1000 {
        frame::put_headers(&mut sent, 2 * n + 1, [&plain, &b"\xbe".repeat(15)], false);
    }
    while_open(&proxy, &sent, |told| {
        let bound = 8 * 1024 * 1024;
        assert!((bound / 2..=bound).contains(&proxy.kept.bytes()));
        let ends = ends_of(told);
        let refused = ends.iter().filter(|end| end.starts_with("fields")).count();
        assert!((800..1000).contains(&refused), "{refused}");
    })
    .await;
    assert_eq!(proxy.kept.bytes(), 0);
}

/// Of calls that have come whole, of some that have not, and of requests that are none.
#[tokio::test(start_paused = true)]
async fn what_is_kept_of_requests_is_given_back_however_they_end() {
    let proxy = waiting_proxy();
    let mut sent = settings();
    for n in 0..300 {
        let path = ["/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"][n as usize % 2];
        frame::put_headers(&mut sent, 2 * n + 1, [&call(path, &[]), &[]], false);
        frame::put_data(&mut sent, 2 * n + 1, &[0; 1000], n % 3 == 0);
        if n % 5 == 0 {
            frame::put_reset(&mut sent, 2 * n + 1, Code::CANCEL);
        }
    }
    for n in 300..400 {
        let mut block = BytesMut::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/v2/keys/a"),
        ] {
            hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
        }
        frame::put_headers(&mut sent, 2 * n + 1, [&block, &[]], true);
    }
    while_open(&proxy, &sent, |_| {
        assert!(100_000 < proxy.kept.bytes());
        assert!(200_000 < proxy.kept_bodies.bytes());
    })
    .await;
    // Tasks that are ended end in their turn.
    let mut turns = 0..10_000;
    while 0 < proxy.kept.bytes() + proxy.kept_bodies.bytes() {
        turns.next().expect("all is given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streams_at_a_time_are_bounded_by_default() {
    let mut sent = settings();
    for n in 0..4097 {
        frame::put_headers(
            &mut sent,
            2 * n + 1,
            [&call("/etcdserverpb.KV/Put", &[]), &[]],
            false,
        );
    }
    while_open(&waiting_proxy(), &sent, |told| {
        assert_eq!(ends_of(told), ["reset 8193 7"]);
        // And the client was told.
        assert!(told.windows(6).any(|six| six == [0, 3, 0, 0, 16, 0]));
    })
    .await;
}

/// However many requests that are no calls a client has, so many take turns from others.
#[tokio::test(start_paused = true)]
async fn requests_that_are_no_calls_are_forwarded_so_many_at_a_time() {
    let proxy = waiting_proxy();
    let session = Arc::new(Session::new(End::Server, [1000, 1000], Bytes::new()));
    let before = session.share.running.available_permits();
    let mut others = vec![];
    for n in 0..before as u32 + 10 {
        let request = http::Request::get("/v2/keys/a").body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let client = ([127, 0, 0, 1], 1).into();
        let other = Other::new(&proxy, &session, 2 * n + 1, client, (parts, 0)).unwrap();
        session.accept(2 * n + 1, Owner::Other(Arc::clone(&other)), true);
        other.data(&[], true);
        others.push(other);
    }
    let running = async |expected: usize| {
        let mut turns = 0..10_000;
        while session.share.running.available_permits() != expected {
            turns.next().expect("they run, and end");
            tokio::task::yield_now().await;
        }
    };
    running(0).await;
    for other in &others {
        other.cancel();
    }
    running(before).await;
}

/// When a client that says this and then nothing is sent away, in seconds, and with which code.
async fn sent_away_after(sent: &[u8]) -> Option<(u64, String)> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve(waiting_proxy(), server));
    client.write_all(sent).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut told = vec![];
    let minutes = Duration::from_secs(300);
    let reading = tokio::time::timeout(minutes, client.read_to_end(&mut told)).await;
    let after = began.elapsed().as_secs();
    drop(client);
    serving.await.unwrap();
    reading.ok()?.unwrap();
    ends_of(&told).pop().map(|last| (after, last))
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_has_to_end() {
    let begun = settings();
    let with = |more: &[u8]| [&begun[..], more].concat();
    let mut watch = settings();
    let path = "/etcdserverpb.Watch/Watch";
    frame::put_headers(&mut watch, 1, [&call(path, &[]), &[]], false);
    let cases: [(Vec<u8>, u64, &str); 8] = [
        (b"PRI ".to_vec(), 15, "goodbye 4"),
        (PREFACE.to_vec(), 15, "goodbye 4"),
        // Half a frame.
        (with(b"\0\0\x06"), 15, "goodbye 11"),
        (with(b"\0\0\x06\x04\0\0\0\0\0"), 15, "goodbye 11"),
        // A block of fields whose end does not come.
        (with(b"\0\0\x01\x01\0\0\0\0\x01\x83"), 15, "goodbye 11"),
        (
            [&watch[..], b"\0\0\x06\0\0\0\0\0\x01x"].concat(),
            60,
            "goodbye 11",
        ),
        // A connection that rests, and a call whose client may take its time.
        (with(b""), 0, ""),
        (watch.to_vec(), 0, ""),
    ];
    for (sent, after, how) in cases {
        let found = sent_away_after(&sent).await;
        let expected = (0 < after).then(|| (after, how.to_owned()));
        assert_eq!(found, expected, "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_one_message_has_to_come_whole() {
    let mut sent = settings();
    frame::put_headers(
        &mut sent,
        1,
        [&call("/etcdserverpb.KV/Put", &[]), &[]],
        false,
    );
    frame::put_data(&mut sent, 1, b"\0", false);
    let soon = told_by_in(waiting_proxy(), Duration::from_secs(59), &sent).await;
    assert_eq!(ends_of(&soon), [""; 0]);
    let late = told_by_in(waiting_proxy(), Duration::from_secs(61), &sent).await;
    assert_eq!(ends_of(&late), ["fields 1 true", "reset 1 0"]);
    assert!(has(&late, "the rest of the call did not come in time"));
}

fn has(told: &[u8], text: &str) -> bool {
    told.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_client_waits_no_longer() {
    let cases = [
        ("5S", 5000),
        ("250m", 250),
        ("1M", 60_000),
        ("90000000n", 90),
    ];
    for (value, ms) in cases {
        let mut sent = settings();
        for (stream, path) in [
            (1, "/etcdserverpb.KV/Put"),
            (3, "/etcdserverpb.Watch/Watch"),
        ] {
            let fields = call(path, &[("grpc-timeout", value)]);
            frame::put_headers(&mut sent, stream, [&fields, &[]], stream == 1);
        }
        let soon = told_by_in(waiting_proxy(), Duration::from_millis(ms - 20), &sent).await;
        assert_eq!(ends_of(&soon), [""; 0], "{value}");
        let late = told_by_in(waiting_proxy(), Duration::from_millis(ms + 30), &sent).await;
        let mut ends = ends_of(&late);
        ends.sort();
        assert_eq!(
            ends,
            ["fields 1 true", "fields 3 true", "reset 3 0"],
            "{value}"
        );
        assert!(has(&late, "context deadline exceeded"));
    }
    // What is malformed is for the member to refuse.
    for value in ["5", "123456789S", "xS", "5s"] {
        let mut sent = settings();
        let fields = call("/etcdserverpb.KV/Put", &[("grpc-timeout", value)]);
        frame::put_headers(&mut sent, 1, [&fields, &[]], true);
        let told = told_by_in(waiting_proxy(), Duration::from_secs(100), &sent).await;
        assert_eq!(ends_of(&told), [""; 0], "{value}");
    }
}

/// Adds a frame, the n-th of its kind.
type Put = fn(&mut BytesMut, u32);

/// S4: they cost a walk over all streams.
#[tokio::test(start_paused = true)]
async fn a_flood_of_frames_that_are_no_request_is_answered_with_goodbye() {
    let settings_frame = |sent: &mut BytesMut, n: u32| {
        frame::put_settings(sent, &[(frame::setting::INITIAL_WINDOW, 65_535 + n % 2)]);
    };
    let ping = |sent: &mut BytesMut, _: u32| frame::put_ping(sent, *b"abcdefgh", false);
    let priority =
        |sent: &mut BytesMut, _: u32| sent.put_slice(b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x10");
    let empty = |sent: &mut BytesMut, _: u32| frame::put_data(sent, 1, &[], false);
    let cases: [(Put, u32); 4] = [
        (settings_frame, 99),
        (ping, 20_000),
        (priority, 20_000),
        (empty, 20_000),
    ];
    for (put, bound) in cases {
        for more in [0, 1] {
            let mut sent = settings();
            frame::put_headers(&mut sent, 1, [&call("/a.B/C", &[]), &[]], false);
            for n in 0..bound + more {
                put(&mut sent, n);
            }
            let ends = ends_of(&told_by(waiting_proxy(), &sent).await);
            let expected = if more == 1 {
                vec!["goodbye 11"]
            } else {
                vec![]
            };
            assert_eq!(ends, expected);
        }
    }
}

/// An end of a connection on which something may be going on.
struct Quiet {
    session: Arc<Session>,
    busy: bool,
}

impl Side for Quiet {
    fn session(&self) -> &Arc<Session> {
        &self.session
    }

    fn event(&mut self, _event: Event<'_>) -> Result<(), frame::Fault> {
        Ok(())
    }

    fn last_stream(&self) -> u32 {
        0
    }

    fn patience(&self) -> Option<(Duration, Duration)> {
        self.busy
            .then_some((Duration::from_secs(10), Duration::from_secs(5)))
    }
}

/// Silence is nothing bad while nothing is asked; who does not answer when asked is gone.
#[tokio::test(start_paused = true)]
async fn the_other_end_has_time_to_answer_however_long_it_was_silent() {
    let (mut peer, socket) = tokio::io::duplex(1 << 16);
    let session = Arc::new(Session::new(End::Client, [1000, 1000], Bytes::new()));
    let busy = false;
    let mut driver = Driver::new(Box::new(socket), Quiet { session, busy }, false, false);
    let mut hello = BytesMut::new();
    frame::put_settings(&mut hello, &[]);
    peer.write_all(&hello).await.unwrap();
    let hour = Duration::from_secs(3600);
    for answers in [true, true, false] {
        driver.side.busy = false;
        let idle = poll_fn(|cx| driver.poll(cx));
        assert!(tokio::time::timeout(hour, idle).await.is_err());
        driver.side.busy = true;
        let busy = poll_fn(|cx| driver.poll(cx));
        assert!(
            tokio::time::timeout(Duration::from_secs(4), busy)
                .await
                .is_err()
        );
        if answers {
            let mut pong = BytesMut::new();
            frame::put_ping(&mut pong, *b"keelson?", true);
            peer.write_all(&pong).await.unwrap();
        }
        let busy = poll_fn(|cx| driver.poll(cx));
        let ended = tokio::time::timeout(Duration::from_secs(2), busy).await;
        assert_eq!(ended.is_err(), answers);
    }
}

/// A socket that takes some bytes, and then is broken.
struct Breaks {
    takes: usize,
}

impl AsyncRead for Breaks {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Breaks {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.takes);
        self.takes -= taken;
        Poll::Ready(match taken {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            taken => Ok(taken),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Two calls go out in one write, of which the kernel takes the first and a byte. Over TLS, where a
/// record may be on its way although the write of it failed, neither can be sent again.
#[tokio::test]
async fn what_a_broken_connection_had_not_taken_can_be_sent_again_unless_it_is_tls() {
    for (secure, expected) in [(false, [false, false, true]), (true, [false; 3])] {
        let session = Arc::new(Session::new(End::Client, [1000, 1000], Bytes::new()));
        let client = Arc::new(Session::new(End::Server, [1000, 1000], Bytes::new()));
        let mut ends = vec![];
        for _ in 0..3 {
            let asked = Asked {
                fields: Bytes::from_static(b"fields"),
                kind: Kind::of("/etcdserverpb.KV/Put"),
                patience: None,
            };
            let call = Call::new(&proxy(), &client, 1, asked);
            session.begin(&call, b"fields", b"body", true).unwrap();
            let mut sent = BytesMut::new();
            frame::put_headers(&mut sent, 1, [b"fields", &[]], false);
            frame::put_data(&mut sent, 1, b"body", true);
            ends.push(sent.len());
        }
        let socket = Box::new(Breaks { takes: ends[0] + 1 });
        let busy = false;
        let side = Quiet {
            session: Arc::clone(&session),
            busy,
        };
        let mut driver = Driver::new(socket, side, false, secure);
        assert!(poll_fn(|cx| driver.poll(cx)).await.is_err());
        let mut unsent: Vec<_> = session
            .close()
            .into_iter()
            .map(|(_, unsent)| unsent)
            .collect();
        unsent.sort_unstable();
        assert_eq!(unsent, expected, "TLS: {secure}");
    }
}

/// A connection whose task is ended from outside leaves nothing behind.
#[tokio::test]
async fn an_aborted_connection_lets_its_calls_go() {
    let proxy = proxy();
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve(Arc::clone(&proxy), server));
    let mut sent = settings();
    // Its body is still to come, and so it is nobody's but its connection's.
    let begun = call("/etcdserverpb.KV/Put", &[]);
    frame::put_headers(&mut sent, 1, [&begun, &[]], false);
    client.write_all(&sent).await.unwrap();
    let accepted = async {
        while Arc::strong_count(&proxy) < 3 {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, accepted).await.unwrap();
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(Arc::strong_count(&proxy), 1);
}

/// Something that a client says.
#[derive(Clone, Debug)]
enum Said {
    Call(u32, bool, bool),
    Get(u32),
    Data(u32, usize, bool),
    Reset(u32),
    Window(u32, u32),
    Setting(u16, u32),
    Ping,
    /// A PUT that says how long its body is.
    Put(u32, u64),
    /// What ends a request, or is malformed.
    Trailers(u32, bool),
    Priority(u32, usize),
    Raw(Vec<u8>),
}

fn said() -> impl Strategy<Value = Said> {
    let stream = || (0..8_u32).prop_map(|n| 2 * n + 1);
    prop_oneof![
        4 => (stream(), any::<bool>(), any::<bool>()).prop_map(|(s, u, e)| Said::Call(s, u, e)),
        1 => stream().prop_map(Said::Get),
        4 => (stream(), 0..20_000_usize, any::<bool>()).prop_map(|(s, n, e)| Said::Data(s, n, e)),
        2 => stream().prop_map(Said::Reset),
        1 => (0..16_u32, 0..u32::MAX / 2).prop_map(|(s, by)| Said::Window(s, by)),
        1 => (stream(), 0..30_000_u64).prop_map(|(s, length)| Said::Put(s, length)),
        1 => (stream(), any::<bool>()).prop_map(|(s, fine)| Said::Trailers(s, fine)),
        1 => (0..16_u32, 4..7_usize).prop_map(|(s, length)| Said::Priority(s, length)),
        1 => (0..8_u16, 0..100_000_u32).prop_map(|(n, value)| Said::Setting(n, value)),
        1 => Just(Said::Ping),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Said::Raw),
    ]
}

fn put(sent: &mut BytesMut, said: &Said) {
    match said {
        Said::Call(stream, unary, end) => {
            let path = match unary {
                true => "/etcdserverpb.KV/Put",
                false => "/etcdserverpb.Watch/Watch",
            };
            frame::put_headers(sent, *stream, [&call(path, &[]), &[]], *end);
        }
        Said::Get(stream) => {
            let mut block = BytesMut::new();
            for (name, value) in [
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/metrics"),
            ] {
                hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
            }
            frame::put_headers(sent, *stream, [&block, &[]], true);
        }
        Said::Put(stream, length) => {
            let mut block = BytesMut::new();
            let length = length.to_string();
            for (name, value) in [
                (":method", "PUT"),
                (":scheme", "http"),
                (":path", "/v2/keys/a"),
                ("content-length", &length),
            ] {
                hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
            }
            frame::put_headers(sent, *stream, [&block, &[]], false);
        }
        Said::Trailers(stream, fine) => {
            let mut block = BytesMut::new();
            let name = if *fine { "x" } else { ":x" };
            hpack::put_field(&mut block, name.as_bytes(), b"y", false);
            frame::put_headers(sent, *stream, [&block, &[]], true);
        }
        Said::Priority(stream, length) => {
            sent.put_slice(&[0, 0, *length as u8, 2, 0]);
            sent.put_u32(*stream);
            sent.put_slice(&vec![0; *length]);
        }
        Said::Data(stream, length, end) => {
            for part in vec![b'x'; *length].chunks(frame::FRAME_BYTES_MAX) {
                frame::put_data(sent, *stream, part, false);
            }
            frame::put_data(sent, *stream, &[], *end);
        }
        Said::Reset(stream) => frame::put_reset(sent, *stream, Code::CANCEL),
        Said::Window(stream, by) => frame::put_window(sent, *stream, *by),
        Said::Setting(number, value) => frame::put_settings(sent, &[(*number, *value)]),
        Said::Ping => frame::put_ping(sent, *b"abcdefgh", false),
        Said::Raw(bytes) => sent.put_slice(bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// It ends when the client does, all that it says is HTTP/2, and nothing is kept of it.
    #[test]
    fn whatever_a_client_says_is_survived(said in proptest::collection::vec(said(), 0..30)) {
        let mut sent = settings();
        for one in &said {
            put(&mut sent, one);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let proxy = proxy();
        let told = runtime.block_on(async {
            let told = told_by(Arc::clone(&proxy), &sent).await;
            // Tasks that were ended end in their turn.
            let mut turns = 0..10_000;
            let kept = || proxy.kept.bytes() + proxy.kept_bodies.bytes();
            while 0 < kept() && turns.next().is_some() {
                tokio::task::yield_now().await;
            }
            told
        });
        ends_of(&told);
        prop_assert_eq!(proxy.kept.bytes() + proxy.kept_bodies.bytes(), 0);
    }
}
