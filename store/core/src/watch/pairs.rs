//! The pairs before changes: read once, and shared by all watchers that need them at a time.
//!
//! An event does not own its pair, which may be far larger than the event: a deletion has a key and
//! a revision. So an event that waits in a mailbox, or among the recent revisions, costs what is
//! counted for it. The latest pairs are kept, up to a limit in bytes, since the watchers of a key
//! need them at about the same time. A pair that is neither kept nor on its way to a client is read
//! again.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::state::Error;

/// A pair, encoded. Its bytes own an [`Owner`], which is in memory as long as any clone of them:
/// also in a frame, and in the send queue of a connection.
pub(super) type Pair = Bytes;

/// The memory of a pair besides its bytes: two handles, the shared owner, and the reference count
/// of `Bytes` with its functions.
pub(super) const PAIR_BYTES: usize = 3 * size_of::<Bytes>() + 6 * size_of::<usize>();

/// What the clones of a pair share.
#[derive(Debug)]
struct Owner(Bytes);

/// Keeps the owner as long as there is a clone.
struct Handle(Arc<Owner>);

impl AsRef<[u8]> for Handle {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

fn pair_of(owner: Arc<Owner>) -> Pair {
    Bytes::from_owner(Handle(owner))
}

#[derive(Debug)]
enum Known {
    Nothing,
    /// There was no pair before.
    Absent,
    /// It was read, and may be gone again.
    Read(Weak<Owner>),
}

/// What an event has of the pair before it.
#[derive(Debug)]
pub(super) struct PreviousPair(RwLock<Known>);

impl PreviousPair {
    /// One that is not read.
    pub(super) fn new() -> PreviousPair {
        PreviousPair(RwLock::new(Known::Nothing))
    }

    /// The pair. It is read if it is not in memory, and then kept in `recent`.
    pub(super) fn get(
        &self,
        recent: Option<&RecentPairs>,
        read: impl FnOnce() -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<Pair>, Error> {
        match &*self.0.read() {
            Known::Absent => return Ok(None),
            Known::Read(pair) => {
                if let Some(owner) = pair.upgrade() {
                    return Ok(Some(pair_of(owner)));
                }
            }
            Known::Nothing => {}
        }
        let read = read()?;
        let mut known = self.0.write();
        let Some(read) = read else {
            *known = Known::Absent;
            return Ok(None);
        };
        // Another stream may have read it meanwhile.
        if let Known::Read(pair) = &*known
            && let Some(owner) = pair.upgrade()
        {
            return Ok(Some(pair_of(owner)));
        }
        let owner = Arc::new(Owner(read));
        *known = Known::Read(Arc::downgrade(&owner));
        drop(known);
        let pair = pair_of(owner);
        if let Some(recent) = recent {
            recent.keep(&pair);
        }
        Ok(Some(pair))
    }
}

#[derive(Default)]
struct KeptPairs {
    pairs: VecDeque<Pair>,
    bytes: usize,
}

/// The latest pairs that were read for new events.
pub(super) struct RecentPairs {
    kept: Mutex<KeptPairs>,
    bytes_max: usize,
}

impl RecentPairs {
    /// None yet, and later up to that many bytes.
    pub(super) fn within(bytes_max: usize) -> RecentPairs {
        RecentPairs {
            kept: Mutex::default(),
            bytes_max,
        }
    }

    fn keep(&self, pair: &Pair) {
        let bytes = |pair: &Pair| PAIR_BYTES + pair.len();
        let mut kept = self.kept.lock();
        kept.bytes += bytes(pair);
        kept.pairs.push_back(pair.clone());
        while self.bytes_max < kept.bytes
            && let Some(oldest) = kept.pairs.pop_front()
        {
            kept.bytes -= bytes(&oldest);
        }
    }

    /// Keeps none of them any longer.
    pub(super) fn clear(&self) {
        *self.kept.lock() = KeptPairs::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(byte: u8) -> Result<Option<Bytes>, Error> {
        Ok(Some(Bytes::from(vec![byte; 1000])))
    }

    fn no_read() -> Result<Option<Bytes>, Error> {
        panic!("it was read before")
    }

    #[test]
    fn a_pair_is_read_once_while_it_is_kept_or_in_use() {
        let recent = RecentPairs::within(3 * (1000 + PAIR_BYTES));
        let events: Vec<_> = (0..5).map(|_| PreviousPair::new()).collect();
        let mut first = None;
        for (number, event) in (0..).zip(&events) {
            let read = event.get(Some(&recent), || pair(number)).unwrap().unwrap();
            assert_eq!(read[0], number);
            first.get_or_insert(read);
        }
        // In use, and kept.
        for number in [0, 2, 3, 4] {
            let again = events[number].get(Some(&recent), no_read).unwrap();
            assert_eq!(usize::from(again.unwrap()[0]), number);
        }
        drop(first);
        for number in [0, 1] {
            let mut reads = 0;
            let again = events[number].get(None, || {
                reads += 1;
                pair(9)
            });
            assert_eq!((again.unwrap().unwrap()[0], reads), (9, 1), "{number}");
        }
        recent.clear();
        assert!(events[4].get(None, || Ok(None)).unwrap().is_none());
        assert!(events[4].get(None, no_read).unwrap().is_none());
    }

    /// Each stream read a copy of its own, and a slow client held it.
    #[test]
    fn a_pair_in_a_frame_is_not_read_again() {
        let event = PreviousPair::new();
        let read = event.get(None, || pair(1)).unwrap().unwrap();
        let frame = read.slice(1..);
        drop(read);
        let again = event.get(None, no_read).unwrap().unwrap();
        assert_eq!(frame.as_ptr(), again[1..].as_ptr());
        // The clone of another stream keeps it as well.
        drop(frame);
        let frame = again.slice(1..);
        drop(again);
        assert!(event.get(None, no_read).unwrap().is_some());
        drop(frame);
        let mut reads = 0;
        let read = event.get(None, || {
            reads += 1;
            pair(2)
        });
        assert_eq!((read.unwrap().unwrap()[0], reads), (2, 1));
    }

    #[test]
    fn an_error_is_not_remembered() {
        let event = PreviousPair::new();
        let failed = event.get(None, || Err(Error::Corrupt));
        assert!(matches!(failed, Err(Error::Corrupt)));
        assert!(event.get(None, || pair(1)).unwrap().is_some());
    }

    /// One that is larger than all room is not kept.
    #[test]
    fn what_is_kept_is_bounded() {
        let recent = RecentPairs::within(1500);
        for _ in 0..3 {
            let event = PreviousPair::new();
            event.get(Some(&recent), || pair(1)).unwrap();
            assert_eq!(recent.kept.lock().bytes, 1000 + PAIR_BYTES);
        }
        let large = || Ok(Some(Bytes::from(vec![1; 2000])));
        let event = PreviousPair::new();
        event.get(Some(&recent), large).unwrap();
        assert_eq!(recent.kept.lock().bytes, 0);
        assert!(recent.kept.lock().pairs.is_empty());
    }
}
