//! Large answers: how many bytes of them may wait for their clients.
//!
//! A listing or a range is built whole, from the tree as it is at one index, and an event or a refusal may have two
//! values of 10 MB each. All are held until their clients have read them: a few requests of sixty bytes
//! whose answers are not read could otherwise hold gigabytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

/// Smaller answers are not counted.
pub(super) const LARGE_BYTES: usize = 64 * 1024;

/// How long the answer to a change waits for room: a refusal would hide that the change was made.
const WAIT: Duration = Duration::from_secs(2);

/// The room for large answers of one kind. A clone is the same room.
#[derive(Clone)]
pub(super) struct LargeAnswers {
    /// In KiB.
    free: Arc<Semaphore>,
    kib_max: u32,
}

/// The room that an answer has; free again when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Room {
    _permit: Arc<OwnedSemaphorePermit>,
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
    fn of(permit: OwnedSemaphorePermit) -> Room {
        Room {
            _permit: Arc::new(permit),
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
            free: Arc::new(Semaphore::new(kib_max as usize)),
            kib_max,
        }
    }

    /// Room for an answer of that many bytes, if there is any. One that is larger than all room takes
    /// all of it.
    pub(super) fn room(&self, bytes: usize) -> Option<Room> {
        let permits = Arc::clone(&self.free).try_acquire_many_owned(self.kib(bytes));
        Some(Room::of(permits.ok()?))
    }

    /// The same; waits for it, for two seconds.
    pub(super) async fn room_in_time(&self, bytes: usize) -> Option<Room> {
        let permits = Arc::clone(&self.free).acquire_many_owned(self.kib(bytes));
        let permits = time::timeout(WAIT, permits).await.ok()?;
        Some(Room::of(permits.ok()?))
    }

    /// The same bytes, which keep their room until they are dropped. `None`: there is no room.
    pub(super) fn hold(&self, answer: Bytes) -> Option<Bytes> {
        if answer.len() < LARGE_BYTES {
            return Some(answer);
        }
        let room = self.room(answer.len())?;
        Some(room.hold(answer))
    }

    /// Whether there is room for an answer of that many bytes, before it is made.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes < LARGE_BYTES || self.kib(bytes) as usize <= self.free.available_permits()
    }

    /// Waits until there is room for an answer of that many bytes, or for two seconds.
    pub(super) async fn wait_for_room(&self, bytes: usize) {
        drop(self.room_in_time(bytes).await);
    }

    fn kib(&self, bytes: usize) -> u32 {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        kib.min(self.kib_max)
    }
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

    #[test]
    fn an_answer_larger_than_all_room_is_given_alone() {
        let answers = LargeAnswers::within(LARGE_BYTES);
        let held = answers.hold(Bytes::from(vec![b'x'; 2 * LARGE_BYTES]));
        assert!(held.is_some() && !answers.has_room(LARGE_BYTES));
    }
}
