//! The revisions that a stream has not read yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::RevisionEvents;

/// The limits of the mailboxes of a member, in bytes. Revisions are shared, and count in each
/// mailbox. A single revision always has room in an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLimits {
    /// The size that each mailbox may have, however full the others are.
    pub each_min: usize,
    /// The maximum size of one mailbox.
    pub each_max: usize,
    /// The maximum size of all together, beyond `each_min`.
    pub all_max: usize,
}

impl Default for MailboxLimits {
    fn default() -> MailboxLimits {
        MailboxLimits {
            each_min: 64 << 10,
            each_max: 4 << 20,
            all_max: 64 << 20,
        }
    }
}

/// What the mailboxes of a member share.
pub(super) struct Mailboxes {
    limits: MailboxLimits,
    /// The bytes of all of them.
    bytes: AtomicUsize,
}

impl Mailboxes {
    pub(super) fn new(limits: MailboxLimits) -> Mailboxes {
        Mailboxes {
            limits,
            bytes: AtomicUsize::new(0),
        }
    }

    fn has_room(&self, before: usize, bytes: usize) -> bool {
        let MailboxLimits {
            each_min,
            each_max,
            all_max,
        } = self.limits;
        let own = before + bytes;
        let all = self.bytes.load(Ordering::Relaxed) + bytes;
        before == 0 || own <= each_min || (own <= each_max && all <= all_max)
    }
}

/// The memory of an entry besides its revision, in bytes.
const ENTRY_BYTES: usize = 2 * size_of::<Delivery>();

/// A revision for the watchers of one range of a stream.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// The number of the range within the stream.
    pub(super) range: usize,
    pub(super) revision: Arc<RevisionEvents>,
}

impl Delivery {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.revision.bytes()
    }
}

#[derive(Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    /// The first revision that was dropped.
    dropped_from: Option<i64>,
    /// The stream ends: what it was sent may be wrong.
    is_cut: bool,
}

/// The result of [`Mailbox::take`].
pub(super) enum Mail {
    /// The next revision.
    Delivery(Delivery),
    /// All further revisions, from this one on, were dropped; later ones are delivered again.
    Dropped(i64),
    /// Nothing is left.
    Empty,
}

/// A mailbox. The hub fills it, the stream empties it.
pub(super) struct Mailbox {
    queue: Mutex<Queue>,
    all: Arc<Mailboxes>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    pub(super) fn new(all: Arc<Mailboxes>, wake: Box<dyn Fn() + Send + Sync>) -> Mailbox {
        Mailbox {
            queue: Mutex::default(),
            all,
            wake,
        }
    }

    /// Adds a revision, or drops it and all later ones until the stream has read the others.
    /// Returns whether the stream must be woken.
    pub(super) fn push(&self, delivery: Delivery) -> bool {
        let mut queue = self.queue.lock();
        if queue.dropped_from.is_some() {
            return false;
        }
        let bytes = delivery.bytes();
        if !self.all.has_room(queue.bytes, bytes) {
            queue.dropped_from = Some(delivery.revision.revision);
            return true;
        }
        queue.bytes += bytes;
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
        queue.deliveries.push_back(delivery);
        queue.deliveries.len() == 1
    }

    /// Drops everything from this revision on until the stream has read the earlier ones.
    pub(super) fn drop_from(&self, revision: i64) {
        let mut queue = self.queue.lock();
        queue.dropped_from.get_or_insert(revision);
        drop(queue);
        self.wake();
    }

    /// Takes the next revision. After the last one before a gap, the gap is reported once.
    pub(super) fn take(&self) -> Mail {
        let mut queue = self.queue.lock();
        match queue.deliveries.pop_front() {
            Some(delivery) => {
                let bytes = delivery.bytes();
                queue.bytes -= bytes;
                self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
                if queue.deliveries.is_empty() {
                    queue.deliveries.shrink_to(16);
                }
                Mail::Delivery(delivery)
            }
            None => match queue.dropped_from.take() {
                Some(revision) => Mail::Dropped(revision),
                None => Mail::Empty,
            },
        }
    }

    /// The number of revisions that wait, the first revision that the stream lacks, and whether
    /// revisions were dropped.
    pub(super) fn counts(&self) -> (usize, Option<i64>, bool) {
        let queue = self.queue.lock();
        let first = queue.deliveries.front();
        let first = first.map(|delivery| delivery.revision.revision);
        (
            queue.deliveries.len(),
            first.or(queue.dropped_from),
            queue.dropped_from.is_some(),
        )
    }

    /// If nothing is left, reads a value while the hub cannot add anything.
    pub(super) fn when_empty<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let queue = self.queue.lock();
        let is_empty = queue.deliveries.is_empty() && queue.dropped_from.is_none();
        is_empty.then(read)
    }

    /// Ends the stream.
    pub(super) fn cut(&self) {
        self.queue.lock().is_cut = true;
        self.wake();
    }

    /// Whether the stream has ended.
    pub(super) fn is_cut(&self) -> bool {
        self.queue.lock().is_cut
    }

    pub(super) fn wake(&self) {
        (self.wake)();
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let left = self.queue.get_mut().bytes;
        self.all.bytes.fetch_sub(left, Ordering::Relaxed);
    }
}
