//! Large answers: how many bytes of them may wait for their clients.
//!
//! A listing or a range is built whole, from the tree as it is at one index, and an event or a refusal may have two
//! values of 10 MB each. All are held until their clients have read them: a few requests of sixty bytes
//! whose answers are not read could otherwise hold gigabytes.
//!
//! Nor do a few connections that read nothing take all of the room. Three quarters of it are for answers
//! below an eighth of all, and there a connection holds at most half as much as it leaves free: one gets a
//! third, ten leave a sixtieth. The last quarter is for larger answers. It has no shares, because it may
//! have no room for two.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use super::account::{Ledger, Piece, client};

/// Smaller answers are not counted.
pub(super) const LARGE_BYTES: usize = 64 * 1024;

/// How long the answer to a change waits for room: a refusal would hide that the change was made.
const WAIT: Duration = Duration::from_secs(2);

/// How often it is tried. Answers that become free do not wake those that wait: thousands may.
const RETRY: Duration = Duration::from_millis(50);

/// The room for large answers of one kind. A clone is the same room.
#[derive(Clone)]
pub(super) struct LargeAnswers {
    shared: Arc<Ledger>,
    /// For answers of an eighth of all room or more.
    largest: Arc<Ledger>,
    kib_max: u32,
}

/// The room that an answer has; free again when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Room {
    _piece: Arc<Piece>,
}

/// An answer in its room.
struct Held {
    answer: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl Room {
    fn of(piece: Piece) -> Room {
        Room {
            _piece: Arc::new(piece),
        }
    }

    /// The same bytes, which keep this room until they are dropped.
    pub(super) fn hold(&self, answer: Bytes) -> Bytes {
        Bytes::from_owner(Held {
            answer,
            _room: self.clone(),
        })
    }
}

impl LargeAnswers {
    /// Room for that many bytes.
    pub(super) fn within(bytes_max: usize) -> LargeAnswers {
        let kib_max = u32::try_from(bytes_max / 1024).unwrap_or(u32::MAX);
        LargeAnswers {
            shared: Ledger::fair(kib_max / 4 * 3),
            largest: Ledger::unfair(kib_max / 4),
            kib_max,
        }
    }

    /// Room for an answer of that many bytes to the request that is served now, if its connection may
    /// have it. An answer that is larger than all room takes all that the largest have.
    pub(super) fn room(&self, bytes: usize) -> Option<Room> {
        let (ledger, kib) = self.ledger(bytes);
        ledger.take(client(), kib).map(Room::of)
    }

    /// The same; waits for it, for two seconds.
    pub(super) async fn room_in_time(&self, bytes: usize) -> Option<Room> {
        in_time(|| self.room(bytes)).await
    }

    /// The same bytes, which keep their room until they are dropped. `None`: there is no room.
    pub(super) fn hold(&self, answer: Bytes) -> Option<Bytes> {
        if answer.len() < LARGE_BYTES {
            return Some(answer);
        }
        let room = self.room(answer.len())?;
        Some(room.hold(answer))
    }

    /// The same for an answer to several clients, which is on no connection's account.
    pub(super) fn hold_for_all(&self, answer: Bytes) -> Option<Bytes> {
        if answer.len() < LARGE_BYTES {
            return Some(answer);
        }
        let (ledger, kib) = self.ledger(answer.len());
        Some(Room::of(ledger.take(None, kib)?).hold(answer))
    }

    /// Whether there is room for such an answer of that many bytes, before it is made.
    pub(super) fn has_room_for_all(&self, bytes: usize) -> bool {
        let (ledger, kib) = self.ledger(bytes);
        bytes < LARGE_BYTES || ledger.has(kib)
    }

    /// Waits until there is room for such an answer of that many bytes, or for two seconds.
    pub(super) async fn wait_for_room_for_all(&self, bytes: usize) {
        in_time(|| self.has_room_for_all(bytes).then_some(())).await;
    }

    /// Where an answer of that many bytes has room, and how much it takes, in KiB.
    fn ledger(&self, bytes: usize) -> (&Arc<Ledger>, u32) {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        match kib < self.kib_max / 8 {
            true => (&self.shared, kib),
            false => (&self.largest, kib.min(self.kib_max / 4)),
        }
    }
}

/// Tries until it succeeds, or for two seconds.
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
        // The largest have room of their own.
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
