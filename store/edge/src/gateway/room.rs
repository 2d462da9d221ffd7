//! The memory budget for the JSON of requests.
//!
//! A gRPC call waits for its turn before its message is read. The gateway needs the message to
//! begin the call, so what it has read is bounded here: while it is read, and then as a message
//! until the call takes it. It is charged as bytes arrive, so that a client that sends nothing uses
//! nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use crate::account::{Ledger, Share, client};
use crate::large::RETRY;

/// The limit of all of it together, in bytes.
const JSON_BYTES_MAX: usize = 128 << 20;

/// The largest texts for which there is always room in an empty budget, of three connections.
const LARGEST_TEXTS: usize = 6;

/// A text of up to this size, in bytes, needs no room.
pub(super) const SMALL_BYTES: usize = 16 << 10;

/// How long a text waits for room before it is refused.
const WAIT: Duration = Duration::from_secs(2);

/// The budget.
#[derive(Clone, Debug)]
pub(crate) struct JsonRoom(Arc<Ledger>);

impl JsonRoom {
    /// The budget for texts of up to that many bytes each.
    pub(crate) fn of_texts(text_bytes_max: usize) -> JsonRoom {
        JsonRoom::within(JSON_BYTES_MAX.max(text_bytes_max.saturating_mul(LARGEST_TEXTS)))
    }

    /// A budget of that many bytes. A connection may have a third of what is free.
    pub(crate) fn within(bytes_max: usize) -> JsonRoom {
        JsonRoom(Ledger::fair(kib(bytes_max)))
    }

    /// The share of the request that is being served: nothing so far.
    pub(super) fn share(&self) -> TextShare {
        TextShare {
            ledger: Arc::clone(&self.0),
            client: client(),
            share: None,
        }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// The share of a request.
pub(super) struct TextShare {
    ledger: Arc<Ledger>,
    client: Option<SocketAddr>,
    share: Option<Share>,
}

impl TextShare {
    /// Makes it the share of so many bytes, if that is available.
    pub(super) fn fit(&mut self, bytes: usize) -> bool {
        if bytes <= SMALL_BYTES {
            self.share = None;
            return true;
        }
        match &mut self.share {
            Some(share) => share.resize(kib(bytes)),
            None => {
                self.share = self.ledger.take(self.client, kib(bytes));
                self.share.is_some()
            }
        }
    }

    /// As [`TextShare::fit`], but waits for up to two seconds.
    pub(super) async fn fit_in_time(&mut self, bytes: usize) -> bool {
        let attempts = async {
            while !self.fit(bytes) {
                time::sleep(RETRY).await;
            }
        };
        time::timeout(WAIT, attempts).await.is_ok()
    }

    /// A message in place of its text, with its share until it is dropped. The next text has a new
    /// share.
    pub(super) fn hold(&mut self, message: Bytes) -> Bytes {
        // A message is smaller than its text.
        self.fit(message.len());
        match self.share.take() {
            Some(share) => Bytes::from_owner(HeldMessage {
                message,
                _share: share,
            }),
            None => message,
        }
    }
}

struct HeldMessage {
    message: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for HeldMessage {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn a_message_keeps_a_share_of_its_own_size() {
        let room = JsonRoom::within(300 * KIB);
        let mut text = room.share();
        assert!(text.fit(SMALL_BYTES));
        assert!(room.0.has(100), "a small one needs none");
        assert!(text.fit(80 * KIB) && text.fit(100 * KIB));
        assert!(!text.fit(200 * KIB), "more than a connection's part");
        assert!(!room.0.has(99));
        let message = text.hold(vec![1; 60 * KIB].into());
        assert!(room.0.has(80) && !room.0.has(81));
        assert!(text.fit(60 * KIB), "the next text");
        let part = message.slice(..1);
        drop((text, message));
        assert!(!room.0.has(100));
        drop(part);
        assert!(room.0.has(100));
    }

    /// `--max-request-bytes` may be 60 MiB.
    #[test]
    fn the_largest_text_has_room() {
        for bytes in [3 << 20, 121 << 20] {
            let room = JsonRoom::of_texts(bytes);
            assert!(room.share().fit(bytes), "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_waits_for_room() {
        let room = JsonRoom::within(300 * KIB);
        let (mut one, mut other) = (room.share(), room.share());
        assert!(one.fit(80 * KIB));
        assert!(!other.fit_in_time(90 * KIB).await);
        let gone = async {
            time::sleep(Duration::from_secs(1)).await;
            drop(one);
        };
        let (waited, ()) = tokio::join!(other.fit_in_time(90 * KIB), gone);
        assert!(waited);
    }
}
