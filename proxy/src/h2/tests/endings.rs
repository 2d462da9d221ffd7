//! The ends of connections and of their calls.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use keelson_port::http2::{Driver, Handler, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::grpc_methods::Kind;
use crate::h2::call::{Call, CallHead};
use crate::h2::owner::{ClientSession, Owner, Session};

/// A handler that is busy or idle.
struct Quiet {
    session: Arc<Session>,
    busy: bool,
}

impl Handler for Quiet {
    type Owner = Owner;

    fn session(&self) -> &Session {
        &self.session
    }

    fn on_frame(&mut self, _frame: Frame<'_>) -> Result<(), frame::ConnectionError> {
        Ok(())
    }

    fn last_stream(&self) -> u32 {
        0
    }

    fn keepalive(&self) -> Option<(Duration, Duration)> {
        self.busy
            .then_some((Duration::from_secs(10), Duration::from_secs(5)))
    }
}

/// An idle connection may be silent. While calls wait, a peer that does not acknowledge a PING is
/// gone.
#[tokio::test(start_paused = true)]
async fn the_other_end_has_time_to_answer_however_long_it_was_silent() {
    let (mut peer, socket) = tokio::io::duplex(1 << 16);
    let session = Arc::new(Session::new(Role::Client, [1000, 1000], Bytes::new()));
    let busy = false;
    let mut driver = Driver::new(Box::new(socket), Quiet { session, busy }, false, false);
    let mut hello = BytesMut::new();
    frame::put_settings(&mut hello, &[]);
    peer.write_all(&hello).await.unwrap();
    let hour = Duration::from_secs(3600);
    for answers in [true, true, false] {
        driver.handler.busy = false;
        let idle = poll_fn(|cx| driver.poll(cx));
        assert!(tokio::time::timeout(hour, idle).await.is_err());
        driver.handler.busy = true;
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

/// Reading is suspended while the write buffer is full: an unfinished frame then has no deadline.
#[tokio::test(start_paused = true)]
async fn a_frame_need_not_end_while_its_answers_are_not_read() {
    let (client, server) = tokio::io::duplex(1 << 10);
    let serving = tokio::spawn(serve(waiting_proxy(), server));
    let (mut read, mut write) = tokio::io::split(client);
    write.write_all(&settings()).await.unwrap();
    // More answers than the buffer holds, and then half a PING.
    let talking = tokio::spawn(async move {
        let mut ping = BytesMut::new();
        frame::put_ping(&mut ping, *b"abcdefgh", false);
        for n in 0..15_000 {
            let more = write.write_all(&ping).await;
            more.unwrap_or_else(|error| panic!("{n}: {error}"));
        }
        write
            .write_all(b"\0\0\x08\x06\0\0\0\0\0abcd")
            .await
            .unwrap();
        write
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!talking.is_finished());
    let mut received = vec![];
    let mut hears = async |received: &mut Vec<u8>, until: &[u8]| {
        let read = async {
            while !received.windows(until.len()).any(|part| part == until) {
                assert_ne!(read.read_buf(received).await.unwrap(), 0);
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .is_ok()
    };
    assert!(!hears(&mut received, b"abcdABCD").await);
    let mut write = talking.await.unwrap();
    write.write_all(b"ABCD").await.unwrap();
    assert!(hears(&mut received, b"abcdABCD").await);
    // From now on the frame has a deadline.
    write
        .write_all(b"\0\0\x08\x06\0\0\0\0\0abcd")
        .await
        .unwrap();
    assert!(!hears(&mut received, b"did not end in time").await);
    assert!(hears(&mut received, b"did not end in time").await);
    drop((read, write));
    serving.await.unwrap();
}

/// A socket that takes some bytes and then fails.
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

/// Two calls are in one write, of which the kernel takes the first and a byte. Over TLS a record
/// may have been sent although its write failed, so neither call can be repeated.
#[tokio::test]
async fn what_a_broken_connection_had_not_taken_can_be_sent_again_unless_it_is_tls() {
    for (secure, expected) in [(false, [false, false, true]), (true, [false; 3])] {
        let session = Arc::new(Session::new(Role::Client, [1000, 1000], Bytes::new()));
        let client = Arc::new(ClientSession::new([1000, 1000]));
        let mut ends = vec![];
        for _ in 0..3 {
            let head = CallHead {
                fields: Bytes::from_static(b"fields"),
                kind: Kind::of("/etcdserverpb.KV/Put"),
                timeout: None,
            };
            let call = Call::new(&proxy(), &client, 1, head);
            let owner = Owner::Member(call);
            session.open(owner, b"fields", b"body", true).unwrap();
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

/// A connection whose task is aborted leaves nothing behind.
#[tokio::test]
async fn an_aborted_connection_lets_its_calls_go() {
    let proxy = proxy();
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve(Arc::clone(&proxy), server));
    let mut sent = settings();
    // Its body has not ended, so only its connection holds it.
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
