//! Fake members, a proxy before them, and a client that sees every byte.

use std::time::Duration;

mod callee;
mod client;
mod fake;
mod received;
mod running;
mod streaming;

pub(crate) use callee::{Callee, Fate};
pub(crate) use client::{Answer, Client, get, put};
pub(crate) use fake::{Fake, Seen, Step, answer, answer_at};
pub(crate) use running::{Running, config};
pub(crate) use streaming::{Peer, Side, StreamingMember};

/// Returns once this holds; it has to in 30 s.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("in vain: {what}");
}

/// A frame of HTTP/2 (RFC 9113, 4.1) of a client that has no library.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
