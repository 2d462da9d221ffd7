//! Bounds and order of a sender's queues.

use std::sync::atomic::{AtomicUsize, Ordering};

use keelson_proto::peer::{Envelope, Forward, peer_message::Message};
use tokio::net::TcpListener;
use tonic::Status;

use super::link_task::gather;
use super::*;
use crate::peer::{connect, link_log};

const PEER: MemberId = MemberId(2);
const LARGE: usize = 512 << 10;

static COMMAND: [u8; LARGE] = [0; LARGE];

fn large() -> PeerMessage {
    let forward = Forward {
        command: bytes::Bytes::from_static(&COMMAND),
        ..Forward::default()
    };
    PeerMessage {
        message: Some(Message::Forward(forward)),
    }
}

fn address(url: Url) -> PeerAddress {
    PeerAddress {
        id: PEER,
        name: "peer".to_owned(),
        urls: vec![url],
    }
}

/// Accepts connections like the kernel of a stopped process, and reads nothing.
async fn peer_that_does_not_read() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    (listener, Url::http("127.0.0.1", port))
}

/// b846fd5 queued 4,096 messages regardless of their size.
#[tokio::test]
async fn a_peer_that_does_not_read_costs_bounded_bytes() {
    let (_listener, url) = peer_that_does_not_read().await;
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let listener: PeerListener = Arc::new(move |event| {
        count.fetch_add(
            usize::from(event == PeerEvent::Lost(PEER)),
            Ordering::Relaxed,
        );
    });
    let runtime = tokio::runtime::Handle::current();
    let links = Links::new(ClusterId(1), MemberId(1), 1, listener, runtime);
    links.update(&[address(url)]);
    let mut queued = 0;
    for _ in 0..2048 {
        let before = lost.load(Ordering::Relaxed);
        let sent = links.send(PEER, large());
        queued += usize::from(sent.is_ok());
        let reported = before + usize::from(sent == Err(SendError::Full));
        assert_eq!(lost.load(Ordering::Relaxed), reported);
        tokio::task::yield_now().await;
    }
    assert!(
        queued * LARGE <= 112 << 20,
        "{queued} messages of 512 KiB wait"
    );
    assert!(10 < queued);
    links.close().await;
    // A round that is still running may update the links after the close.
    links.update(&[address(Url::http("127.0.0.1", 1))]);
    assert_eq!(links.urls(PEER), None, "it is closed");
    assert_eq!(links.send(PEER, large()), Err(SendError::NoLink));
}

#[tokio::test]
async fn an_envelope_is_bounded_in_bytes() {
    let waiting = QueueBytes::default();
    let (queue, mut messages) = mpsc::channel(QUEUE_MAX);
    for _ in 0..10 {
        let queued = waiting.add(LARGE, QUEUE_BYTES_MAX).expect("room");
        assert!(queue.try_send((large(), queued)).is_ok());
    }
    let first = messages.recv().await.expect("a message");
    let (batch, queued) = gather(first, &mut messages);
    assert_eq!((batch.len(), queued.len()), (2, 2));
    assert!(waiting.add(1, 10 * LARGE).is_none());
    drop(queued);
    assert!(waiting.add(1, 10 * LARGE).is_some(), "two have left");
}

/// A stopped process was reported as another service without HTTP/2, and no warning was logged.
#[tokio::test(start_paused = true)]
async fn a_stopped_peer_is_distinguished_from_another_service() {
    let (_listener, url) = peer_that_does_not_read().await;
    let client = connect::connect(&[url], &ClientTls::default()).await;
    let mut client = client.expect("the kernel accepts");
    let nothing = tokio_stream::pending::<Envelope>();
    let ended = client.stream(nothing).await.expect_err("no answer");
    assert!(link_log::is_silence(&ended), "{ended:?}");
    assert!(link_log::reason(&ended).contains("process is stopped"));
    assert!(!link_log::is_silence(&Status::unavailable("http2 error")));
}
