//! The hub: follows the rows and delivers each revision to the streams that it concerns.

mod counts;
mod registration;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard, RwLock};

pub use counts::WatchCounts;

use super::mailbox::{Delivery, Mailbox, MailboxLimits, Mailboxes};
use super::pairs::RecentPairs;
use super::{RangeIndex, RevisionEvents, WatchStream};
use crate::state::auth::Caller;
use crate::state::{Error, EventBudget, EventSpan, ReadView};

/// The maximum size of one step of the fan-out, in bytes.
const STEP_BYTES: usize = 1 << 20;

/// The limits of the watches of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// What streams that do not read may hold.
    pub mailboxes: MailboxLimits,
    /// The maximum size of the recent revisions that are kept for streams that are a little behind,
    /// in bytes.
    pub recent_bytes: usize,
    /// The maximum size of the pairs before changes that are kept for watchers of new events, in
    /// bytes.
    pub previous_bytes: usize,
    /// The rows that one step of the fan-out reads. A step ends with a complete revision.
    pub fan_out_rows: usize,
    /// The same for a step of a watcher that reads the history.
    pub history_rows: usize,
}

impl Default for WatchLimits {
    fn default() -> WatchLimits {
        WatchLimits {
            mailboxes: MailboxLimits::default(),
            recent_bytes: 8 << 20,
            previous_bytes: 8 << 20,
            fan_out_rows: 256,
            history_rows: 1000,
        }
    }
}

/// The streams with a range: the mailbox, and the number of the range within the stream.
type Subscribers = BTreeMap<u64, (Arc<Mailbox>, usize)>;

/// The delivery of new revisions. One lock for all of it: registrations are rare, and a step of the
/// fan-out is short.
struct FanOut {
    index: RangeIndex<Subscribers>,
    /// The number of ranges of all streams.
    ranges: usize,
    streams: BTreeMap<u64, Arc<Mailbox>>,
    last_stream: u64,
    /// The next revision to deliver. Without ranges it has no meaning.
    next: i64,
    /// The number of the view in which `next` is a position.
    view_number: u64,
    recent: VecDeque<Arc<RevisionEvents>>,
    recent_bytes: usize,
    /// The revision from which `recent` is complete, up to `next`.
    recent_from: i64,
    /// Streams that wait for the next revision to answer a progress request.
    waiting: Vec<Arc<Mailbox>>,
}

impl FanOut {
    fn remember(&mut self, revision: Arc<RevisionEvents>, bytes_max: usize) {
        self.recent_bytes += revision.bytes();
        self.recent.push_back(revision);
        while bytes_max < self.recent_bytes
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_bytes -= oldest.bytes();
            self.recent_from = oldest.revision + 1;
        }
    }

    fn forget_recent(&mut self, next: i64) {
        self.recent.clear();
        self.recent_bytes = 0;
        self.recent_from = next;
    }

    /// Returns the number of deliveries.
    fn deliver(&self, revision: &Arc<RevisionEvents>, woken: &mut Vec<Arc<Mailbox>>) -> u64 {
        let mut deliveries = 0;
        let mut send = |mailbox: &Arc<Mailbox>, range: usize| {
            let revision = Arc::clone(revision);
            deliveries += 1;
            if mailbox.push(Delivery { range, revision }) {
                woken.push(Arc::clone(mailbox));
            }
        };
        if let [event] = &revision.events[..] {
            self.index.visit(&event.key, &mut |subscribers| {
                for (mailbox, range) in subscribers.values() {
                    send(mailbox, *range);
                }
            });
            return deliveries;
        }
        // Several events may match one range, which gets the revision once.
        let mut concerned: BTreeMap<(u64, usize), &Arc<Mailbox>> = BTreeMap::new();
        for event in &revision.events {
            self.index.visit(&event.key, &mut |subscribers| {
                for (stream, (mailbox, range)) in subscribers {
                    concerned.insert((*stream, *range), mailbox);
                }
            });
        }
        for ((_, range), mailbox) in concerned {
            send(mailbox, range);
        }
        deliveries
    }

    /// Revisions were lost, from `next` on: every stream reads them from the history.
    fn drop_from_next(&self) {
        for mailbox in self.streams.values() {
            mailbox.drop_from(self.next);
        }
    }
}

type FailureHandler = Box<dyn Fn(&Error) + Send + Sync>;

/// A view, and a number that changes with every snapshot that replaces the state.
struct CurrentView {
    view: ReadView,
    number: u64,
}

/// The watches of a member.
pub struct WatchHub {
    view: RwLock<CurrentView>,
    fan_out: Mutex<FanOut>,
    /// The number of ranges, readable without the lock.
    ranges: AtomicUsize,
    /// The number of watchers of all streams.
    watchers: AtomicIsize,
    /// The number of revisions that were put into mailboxes.
    deliveries: AtomicU64,
    /// The revision up to which everything is delivered.
    delivered: AtomicI64,
    /// The last change of rights for which the streams were woken.
    auth_changed: AtomicU64,
    /// Called when a stream cannot read.
    failed: OnceLock<FailureHandler>,
    mailboxes: Arc<Mailboxes>,
    /// Of new and recent events.
    pub(super) pairs: RecentPairs,
    limits: WatchLimits,
}

impl WatchHub {
    /// A hub that follows the state of this view.
    pub fn new(view: ReadView) -> Arc<WatchHub> {
        WatchHub::with_limits(view, WatchLimits::default())
    }

    /// The same, with other limits.
    pub fn with_limits(view: ReadView, limits: WatchLimits) -> Arc<WatchHub> {
        let next = view.revision() + 1;
        let auth_changed = view.auth_changed();
        Arc::new(WatchHub {
            view: RwLock::new(CurrentView { view, number: 0 }),
            fan_out: Mutex::new(FanOut {
                index: RangeIndex::default(),
                ranges: 0,
                streams: BTreeMap::new(),
                last_stream: 0,
                next,
                view_number: 0,
                recent: VecDeque::new(),
                recent_bytes: 0,
                recent_from: next,
                waiting: Vec::new(),
            }),
            ranges: AtomicUsize::new(0),
            watchers: AtomicIsize::new(0),
            deliveries: AtomicU64::new(0),
            delivered: AtomicI64::new(next - 1),
            auth_changed: AtomicU64::new(auth_changed),
            failed: OnceLock::new(),
            mailboxes: Arc::new(Mailboxes::new(limits.mailboxes)),
            pairs: RecentPairs::within(limits.previous_bytes),
            limits,
        })
    }

    /// Sets what is called when a stream finds that the engine has failed. It is set once.
    pub fn on_failure(&self, handler: impl Fn(&Error) + Send + Sync + 'static) {
        let _ = self.failed.set(Box::new(handler));
    }

    pub(super) fn note_failure(&self, error: &Error) {
        if let Some(handler) = self.failed.get() {
            handler(error);
        }
    }

    /// A snapshot has replaced the state. Revisions that were compacted in it are lost to the
    /// watchers that have not been sent them.
    pub fn replace_view(&self, view: ReadView) {
        let mut current = self.view.write();
        current.view = view;
        current.number += 1;
    }

    /// The current view.
    pub(super) fn view(&self) -> ReadView {
        self.view.read().view.clone()
    }

    /// The change of rights that the current view has.
    pub(super) fn auth_changed(&self) -> u64 {
        self.view.read().view.auth_changed()
    }

    /// A new stream of that caller. `wake` is called when [`WatchStream::next`] may have something
    /// after it had nothing; it must return at once.
    pub fn stream(
        self: &Arc<WatchHub>,
        caller: Arc<Caller>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> WatchStream {
        let mailbox = Mailbox::new(Arc::clone(&self.mailboxes), Box::new(wake));
        let mailbox = Arc::new(mailbox);
        let mut fan_out = self.fan_out.lock();
        fan_out.last_stream += 1;
        let id = fan_out.last_stream;
        fan_out.streams.insert(id, Arc::clone(&mailbox));
        drop(fan_out);
        WatchStream::new(Arc::clone(self), caller, id, mailbox)
    }

    /// Whether there are watchers, and revisions to deliver or a change of rights to tell:
    /// [`WatchHub::fan_out`] must be called.
    pub fn is_behind(&self) -> bool {
        if self.ranges.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let view = &self.view.read().view;
        self.delivered.load(Ordering::SeqCst) < view.revision()
            || self.auth_changed.load(Ordering::SeqCst) != view.auth_changed()
    }

    /// Whether rows up to a revision may be deleted: all watchers that need them now either have
    /// their events or read the history, where a compaction is detected.
    pub fn has_delivered(&self, revision: i64) -> bool {
        // In this order: a range that is registered later begins after the current revision.
        let delivered = self.delivered.load(Ordering::SeqCst);
        self.ranges.load(Ordering::SeqCst) == 0 || revision <= delivered
    }

    /// Delivers some revisions. Returns whether more are left.
    ///
    /// # Errors
    /// The engine failed: the member must stop.
    pub fn fan_out(&self) -> Result<bool, Error> {
        self.step(self.fan_out.lock())
    }

    /// The same, if that takes little time: there are at most `streams_max` streams, and no other
    /// thread is delivering or registering.
    ///
    /// # Errors
    /// As [`WatchHub::fan_out`].
    pub fn fan_out_to_few(&self, streams_max: usize) -> Result<bool, Error> {
        match self.fan_out.try_lock() {
            Some(fan_out) if fan_out.streams.len() <= streams_max => self.step(fan_out),
            _ => Ok(true),
        }
    }

    fn step(&self, mut fan_out: MutexGuard<'_, FanOut>) -> Result<bool, Error> {
        if fan_out.ranges == 0 {
            return Ok(false);
        }
        let (view, number) = {
            let current = self.view.read();
            (current.view.clone(), current.number)
        };
        if view.is_fenced() {
            // The state that replaces it has the right events.
            return Ok(false);
        }
        let upto = view.revision();
        let changed = view.auth_changed();
        if self.auth_changed.swap(changed, Ordering::SeqCst) != changed {
            // Each looks for watchers whose caller has lost its right.
            fan_out.streams.values().for_each(|mailbox| mailbox.wake());
        }
        if fan_out.view_number != number {
            fan_out.view_number = number;
            if fan_out.next < view.compact_revision() {
                fan_out.drop_from_next();
                fan_out.forget_recent(upto + 1);
                self.deliver_upto(fan_out, upto + 1);
                return Ok(false);
            }
        }
        if upto < fan_out.next {
            return Ok(false);
        }
        let step = EventBudget {
            rows: self.limits.fan_out_rows,
            bytes: STEP_BYTES,
        };
        let EventSpan { revisions, next } = view.events(fan_out.next, upto, step, &|_| true)?;
        let mut woken = Vec::new();
        for revision in revisions {
            let deliveries = fan_out.deliver(&revision, &mut woken);
            self.deliveries.fetch_add(deliveries, Ordering::Relaxed);
            fan_out.remember(revision, self.limits.recent_bytes);
        }
        self.deliver_upto(fan_out, next);
        woken.iter().for_each(|mailbox| mailbox.wake());
        Ok(next <= upto)
    }

    /// Every stream has been given all revisions before `next`, or that it has lost some.
    fn deliver_upto(&self, mut fan_out: MutexGuard<'_, FanOut>, next: i64) {
        fan_out.next = next;
        self.delivered.store(next - 1, Ordering::SeqCst);
        let waiting = std::mem::take(&mut fan_out.waiting);
        drop(fan_out);
        waiting.iter().for_each(|mailbox| mailbox.wake());
    }

    /// Adds to the number of watchers.
    pub(super) fn count_watchers(&self, more: isize) {
        self.watchers.fetch_add(more, Ordering::Relaxed);
    }

    /// The rows of one step of a watcher that reads the history.
    pub(super) fn history_rows(&self) -> usize {
        self.limits.history_rows
    }

    /// The revision up to which everything is delivered.
    pub(super) fn delivered(&self) -> i64 {
        self.delivered.load(Ordering::SeqCst)
    }

    /// The same, after a step of the fan-out that is in progress: every revision that a mailbox was
    /// given, or that it dropped, is not above it.
    pub(super) fn settled(&self) -> i64 {
        self.fan_out.lock().next - 1
    }

    /// Wakes the stream after the next revision.
    pub(super) fn wake_at_next(&self, mailbox: &Arc<Mailbox>) {
        let mut fan_out = self.fan_out.lock();
        let is_waiting = |other: &Arc<Mailbox>| Arc::ptr_eq(other, mailbox);
        if !fan_out.waiting.iter().any(is_waiting) {
            fan_out.waiting.push(Arc::clone(mailbox));
        }
    }

    /// Delivered revisions from `from` on, about `bytes` of them and at least one if there is any;
    /// `None` if they are no longer in memory.
    pub(super) fn recent(&self, from: i64, bytes: usize) -> Option<EventSpan> {
        let fan_out = self.fan_out.lock();
        if from < fan_out.recent_from || fan_out.ranges == 0 {
            return None;
        }
        let first = fan_out
            .recent
            .partition_point(|revision| revision.revision < from);
        let (mut revisions, mut taken, mut next) = (Vec::new(), 0, fan_out.next);
        for revision in fan_out.recent.range(first..) {
            if bytes <= taken {
                next = revision.revision;
                break;
            }
            taken += revision.bytes();
            revisions.push(Arc::clone(revision));
        }
        Some(EventSpan { revisions, next })
    }
}
