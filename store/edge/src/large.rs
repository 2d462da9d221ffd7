//! A memory budget for large answers that clients have not read yet.
//!
//! A listing or a range is built completely, from the tree at one index, and an event or an error
//! may contain two values of 10 MB each. All are held until their clients have read them. Without
//! a limit, a few requests of sixty bytes with unread answers could hold gigabytes.
//!
//! A few connections that read nothing must not take the whole budget. Three quarters of it are for
//! answers below an eighth of the total. There a connection holds at most half as much as it leaves
//! free: one gets a third, ten leave a sixtieth. The last quarter is for larger answers. It has no
//! limit for a connection, because it may not fit two of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use super::account::{Ledger, Share, client};

/// Smaller answers are not counted, in bytes.
pub(super) const LARGE_BYTES: usize = 64 * 1024;

/// How long the answer to a change waits for room: an error would hide that the change was made.
const WAIT: Duration = Duration::from_secs(2);

/// The interval of the attempts. A released share does not wake waiting answers, of which there
/// may be thousands.
pub(super) const RETRY: Duration = Duration::from_millis(50);

/// The budget for large answers of one kind. Clones share it.
#[derive(Clone)]
pub(super) struct LargeAnswers {
    shared: Arc<Ledger>,
    /// For answers of an eighth of the budget or more.
    largest: Arc<Ledger>,
    kib_max: u32,
}

/// The share of an answer; returned when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Room {
    _piece: Arc<Share>,
}

/// The bytes of an answer, with its share.
struct HeldAnswer {
    answer: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for HeldAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl Room {
    fn of(share: Share) -> Room {
        Room {
            _piece: Arc::new(share),
        }
    }

    /// The same bytes, which keep this share until they are dropped.
    pub(super) fn hold(&self, answer: Bytes) -> Bytes {
        Bytes::from_owner(HeldAnswer {
            answer,
            _room: self.clone(),
        })
    }
}

impl LargeAnswers {
    /// A budget of that many bytes.
    pub(super) fn within(bytes_max: usize) -> LargeAnswers {
        let kib_max = u32::try_from(bytes_max / 1024).unwrap_or(u32::MAX);
        LargeAnswers {
            shared: Ledger::fair(kib_max / 4 * 3),
            largest: Ledger::unfair(kib_max / 4),
            kib_max,
        }
    }

    /// Takes a share for an answer of that many bytes to the request that is being served, if its
    /// connection may have it. An answer larger than the budget takes all that is for the
    /// largest.
    pub(super) fn room(&self, bytes: usize) -> Option<Room> {
        self.room_now(client(), bytes)
    }

    /// As [`LargeAnswers::room`], but waits for up to two seconds.
    pub(super) async fn room_in_time(&self, bytes: usize) -> Option<Room> {
        in_time(|| self.room(bytes)).await
    }

    /// The same bytes, which keep a share until they are dropped. `None` if there is no room.
    pub(super) fn hold(&self, answer: Bytes) -> Option<Bytes> {
        if answer.len() < LARGE_BYTES {
            return Some(answer);
        }
        let room = self.room(answer.len())?;
        Some(room.hold(answer))
    }

    /// As [`LargeAnswers::room`], for an answer to a client whose request is no longer being
    /// served.
    pub(super) fn room_now(&self, client: Option<SocketAddr>, bytes: usize) -> Option<Room> {
        let (ledger, kib) = self.ledger(bytes);
        ledger.take(client, kib).map(Room::of)
    }

    /// As [`LargeAnswers::room_in_time`], for an answer to a client whose request is no longer
    /// being served.
    pub(super) async fn room_for(&self, client: Option<SocketAddr>, bytes: usize) -> Option<Room> {
        in_time(|| self.room_now(client, bytes)).await
    }

    /// As [`LargeAnswers::hold`], for an answer to a client whose request is no longer being
    /// served; it waits for up to two seconds.
    pub(super) async fn hold_in_time(
        &self,
        client: Option<SocketAddr>,
        answer: Bytes,
    ) -> Option<Bytes> {
        if answer.len() < LARGE_BYTES {
            return Some(answer);
        }
        let room = self.room_for(client, answer.len()).await?;
        Some(room.hold(answer))
    }

    /// As [`LargeAnswers::hold`], for an answer to several clients, on no connection's account.
    pub(super) fn hold_for_all(&self, answer: Bytes) -> Option<Bytes> {
        if answer.len() < LARGE_BYTES {
            return Some(answer);
        }
        let (ledger, kib) = self.ledger(answer.len());
        Some(Room::of(ledger.take(None, kib)?).hold(answer))
    }

    /// Whether there is room for such an answer of that many bytes, before it is built.
    pub(super) fn has_room_for_all(&self, bytes: usize) -> bool {
        let (ledger, kib) = self.ledger(bytes);
        bytes < LARGE_BYTES || ledger.has(kib)
    }

    /// Waits for up to two seconds until there is room for such an answer of that many bytes.
    pub(super) async fn wait_for_room_for_all(&self, bytes: usize) {
        in_time(|| self.has_room_for_all(bytes).then_some(())).await;
    }

    /// The budget for an answer of that many bytes, and its share in KiB.
    fn ledger(&self, bytes: usize) -> (&Arc<Ledger>, u32) {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        match kib < self.kib_max / 8 {
            true => (&self.shared, kib),
            false => (&self.largest, kib.min(self.kib_max / 4)),
        }
    }
}

/// Repeats the attempt until it succeeds, for up to two seconds.
async fn in_time<T>(attempt: impl Fn() -> Option<T>) -> Option<T> {
    let attempts = async {
        loop {
            if let Some(made) = attempt() {
                return made;
            }
            time::sleep(RETRY).await;
        }
    };
    time::timeout(WAIT, attempts).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(answers: &LargeAnswers, bytes: usize) -> Vec<Bytes> {
        let large = Bytes::from(vec![b'x'; bytes]);
        std::iter::from_fn(|| answers.hold_for_all(large.clone())).collect()
    }

    #[test]
    fn answers_that_are_not_read_are_bounded() {
        let answers = LargeAnswers::within(32 * LARGE_BYTES);
        let held = crowd(&answers, LARGE_BYTES);
        assert!(held.len() < 24 && !answers.has_room_for_all(LARGE_BYTES));
        assert!(answers.hold(Bytes::from_static(b"small")).is_some());
        assert!(answers.has_room_for_all(9));
        // The largest answers have a budget of their own.
        assert_eq!(crowd(&answers, 4 * LARGE_BYTES).len(), 2);
        drop(held);
        let large = Bytes::from(vec![b'x'; LARGE_BYTES]);
        assert_eq!(answers.hold(large.clone()), Some(large));
    }

    #[test]
    fn an_answer_larger_than_all_room_is_given_alone() {
        let answers = LargeAnswers::within(16 * LARGE_BYTES);
        assert_eq!(crowd(&answers, 99 * LARGE_BYTES).len(), 1);
    }
}
