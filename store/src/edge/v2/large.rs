//! Large answers: how many bytes of them may wait for their clients.
//!
//! A listing is built whole, from the tree as it is at one index, and an event or a refusal may have two
//! values of 10 MB each. All are held until their clients have read them: a few requests of sixty bytes
//! whose answers are not read could otherwise hold gigabytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

use super::error::{Code, KeyError};

/// The largest listing, in bytes, roughly.
pub(super) const LISTING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// All large answers of a kind together, in bytes. The estimate of a listing leaves out what JSON escapes.
const ANSWERS_BYTES_MAX: usize = 2 * LISTING_BYTES_MAX;

/// Smaller answers are not counted.
const LARGE_BYTES: usize = 1024 * 1024;

/// How long the answer to a change waits for room: a refusal would hide that the change was made.
const WAIT: Duration = Duration::from_secs(2);

/// What a request is answered whose answer has no room.
pub(super) const CROWDED: KeyError = KeyError::new(
    Code::RaftInternal,
    "too many large answers wait for their clients; try again",
);

/// The room for large answers of one kind, in KiB. A clone is the same room.
#[derive(Clone)]
pub(super) struct LargeAnswers(Arc<Semaphore>);

impl Default for LargeAnswers {
    fn default() -> LargeAnswers {
        LargeAnswers::within(ANSWERS_BYTES_MAX)
    }
}

/// An answer in its room.
struct Held {
    answer: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl LargeAnswers {
    /// Room for that many bytes.
    pub(super) fn within(bytes_max: usize) -> LargeAnswers {
        LargeAnswers(Arc::new(Semaphore::new(bytes_max / 1024)))
    }

    /// The same bytes, which keep their room until they are dropped. `None`: there is no room.
    pub(super) fn hold(&self, answer: Bytes) -> Option<Bytes> {
        if answer.len() < LARGE_BYTES {
            return Some(answer);
        }
        let room = Arc::clone(&self.0);
        let room = room.try_acquire_many_owned(kib(answer.len())).ok()?;
        Some(Bytes::from_owner(Held {
            answer,
            _room: room,
        }))
    }

    /// Whether there is room for an answer of that many bytes, before it is made.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes < LARGE_BYTES || kib(bytes) as usize <= self.0.available_permits()
    }

    /// Waits until there is room for an answer of that many bytes, or for two seconds.
    pub(super) async fn wait_for_room(&self, bytes: usize) {
        let _ = time::timeout(WAIT, self.0.acquire_many(kib(bytes))).await;
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_not_read_are_bounded() {
        let answers = LargeAnswers::within(3 * LARGE_BYTES);
        let large = Bytes::from(vec![b'x'; LARGE_BYTES]);
        let held: Vec<_> = (0..9).filter_map(|_| answers.hold(large.clone())).collect();
        assert_eq!(held.len(), 3);
        assert!(answers.hold(Bytes::from_static(b"small")).is_some());
        assert!(!answers.has_room(LARGE_BYTES) && answers.has_room(9));
        drop(held);
        assert!(answers.has_room(LARGE_BYTES));
        assert_eq!(answers.hold(large.clone()), Some(large));
    }
}
