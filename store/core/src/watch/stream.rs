//! One client's `Watch` call: its watchers, and the messages that they are sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use keelson_proto::etcdserverpb::WatchCreateRequest;
use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use slab::Slab;

use super::mailbox::{Delivery, Mail, Mailbox};
use super::message::{NO_WATCH, WatchContent, WatchMessage};
use super::{RangeIndex, WatchHub, WatchRange, denial};
use crate::state::Error;
use crate::state::auth::{Access, Caller};

/// The maximum number of watchers of a stream.
const WATCHERS_MAX: usize = 200_000;
/// The maximum size of the ranges of a stream's watchers, in bytes.
const RANGE_BYTES_MAX: usize = 64 << 20;

/// The steps through the history in one call. A step reads at most `WatchLimits::history_rows`.
const HISTORY_STEPS_MAX: usize = 8;

/// etcd's texts for watches that cannot begin.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const TOO_MANY: &str = "etcdserver: too many requests";

/// A watcher.
pub(super) struct StreamWatcher {
    pub(super) id: i64,
    pub(super) range: usize,
    /// The next revision that it needs: it has been sent all events before.
    pub(super) next: i64,
    /// It reads the history, and takes nothing from the mailbox.
    pub(super) is_behind: bool,
    pub(super) puts: bool,
    pub(super) deletes: bool,
    pub(super) previous: bool,
    pub(super) notify: bool,
    pub(super) may_fragment: bool,
    /// No events since the last periodic progress.
    pub(super) is_quiet: bool,
}

/// A range of the stream, and the watchers that have it.
pub(super) struct StreamRange {
    pub(super) range: WatchRange,
    pub(super) watchers: BTreeSet<usize>,
}

/// A revision that is being sent to the watchers of a range.
pub(super) struct Sending {
    pub(super) delivery: Delivery,
    /// The last of the range's watchers to which it was sent.
    pub(super) last: Option<usize>,
}

/// A stream. It ends when it is dropped.
pub struct WatchStream {
    pub(super) hub: Arc<WatchHub>,
    /// Whose watchers they are.
    pub(super) caller: Arc<Caller>,
    /// The change of rights after which they were checked.
    pub(super) checked_at: u64,
    id: u64,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) watchers: Slab<StreamWatcher>,
    by_id: BTreeMap<i64, usize>,
    pub(super) ranges: Slab<StreamRange>,
    /// The numbers of the ranges.
    pub(super) index: RangeIndex<usize>,
    range_bytes: usize,
    next_id: i64,
    /// The watchers that are behind.
    pub(super) behind: BTreeSet<usize>,
    /// The last watcher that read the history.
    pub(super) last_behind: usize,
    /// Messages to be sent first, in order.
    pub(super) ready: VecDeque<WatchMessage>,
    pub(super) sending: Option<Sending>,
    /// A progress request, and the revision that its answer must have at least.
    pub(super) progress: Option<i64>,
    /// The next read is of the history, if a watcher is behind.
    history_next: bool,
    /// Watchers that are behind may read the history.
    pub(super) may_read_history: bool,
    /// Messages with events may be split at this size, in bytes.
    pub(super) fragment_bytes: usize,
}

impl WatchStream {
    pub(super) fn new(
        hub: Arc<WatchHub>,
        caller: Arc<Caller>,
        id: u64,
        mailbox: Arc<Mailbox>,
    ) -> WatchStream {
        WatchStream {
            caller,
            checked_at: hub.auth_changed(),
            hub,
            id,
            mailbox,
            watchers: Slab::new(),
            by_id: BTreeMap::new(),
            ranges: Slab::new(),
            index: RangeIndex::default(),
            range_bytes: 0,
            next_id: 0,
            behind: BTreeSet::new(),
            last_behind: 0,
            ready: VecDeque::new(),
            sending: None,
            progress: None,
            history_next: false,
            may_read_history: true,
            fragment_bytes: usize::MAX,
        }
    }

    /// Splits messages of more than `bytes` bytes, for watchers that allow it.
    pub fn set_fragment_bytes(&mut self, bytes: usize) {
        self.fragment_bytes = bytes;
    }

    /// The number of watchers.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether the stream has no watcher.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Whether messages wait that need no event. No further request should be taken then, so that
    /// their number is bounded.
    pub fn has_replies(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether any watcher has requested periodic progress.
    pub fn has_progress_watchers(&self) -> bool {
        self.watchers.iter().any(|(_, watcher)| watcher.notify)
    }

    /// Creates a watcher, if the caller may have it. The answer is a message.
    pub fn create(&mut self, request: WatchCreateRequest) {
        let view = self.hub.view();
        if view.is_fenced() {
            return self.mailbox.cut();
        }
        if let Err(error) = view.authorize(&self.caller, Access::watch(&request)) {
            return self.refuse(denial(&error));
        }
        match self.check(&request) {
            Ok((id, range)) => self.begin(id, range, &request),
            Err(reason) => self.refuse(reason),
        }
    }

    /// Answers that a watcher cannot be created, for a reason outside of the store.
    pub fn refuse(&mut self, reason: &'static str) {
        self.ready.push_back(WatchMessage {
            watch_id: NO_WATCH,
            revision: self.hub.view().revision(),
            content: WatchContent::Refused(reason),
        });
    }

    fn check(&mut self, request: &WatchCreateRequest) -> Result<(i64, WatchRange), &'static str> {
        if request.start_revision < 0 {
            return Err(COMPACTED);
        }
        let range = WatchRange::new(&request.key, &request.range_end);
        let range = range.ok_or(EMPTY_RANGE)?;
        if WATCHERS_MAX <= self.watchers.len() || RANGE_BYTES_MAX < self.range_bytes + range.bytes()
        {
            return Err(TOO_MANY);
        }
        let mut id = request.watch_id;
        if id == 0 {
            while self.by_id.contains_key(&self.next_id) {
                self.next_id += 1;
            }
            id = self.next_id;
            self.next_id += 1;
        } else if self.by_id.contains_key(&id) {
            return Err(DUPLICATE_ID);
        }
        Ok((id, range))
    }

    fn begin(&mut self, id: i64, range: WatchRange, request: &WatchCreateRequest) {
        self.range_bytes += range.bytes();
        let number = self.range(range);
        // The view is taken after the registration: later revisions are in the mailbox, also if a
        // snapshot replaces the state at this moment.
        let view = self.hub.view();
        let revision = view.revision();
        let filters = |filter: FilterType| request.filters.contains(&filter.into());
        self.hub.count_watchers(1);
        let slot = self.watchers.insert(StreamWatcher {
            id,
            range: number,
            next: match request.start_revision {
                0 => revision + 1,
                start => start,
            },
            is_behind: (1..=revision).contains(&request.start_revision),
            puts: !filters(FilterType::Noput),
            deletes: !filters(FilterType::Nodelete),
            previous: request.prev_kv,
            notify: request.progress_notify,
            may_fragment: request.fragment,
            is_quiet: true,
        });
        if self.watchers[slot].is_behind {
            self.behind.insert(slot);
        }
        self.by_id.insert(id, slot);
        self.ranges[number].watchers.insert(slot);
        self.ready.push_back(WatchMessage {
            watch_id: id,
            revision,
            content: WatchContent::Created,
        });
        let compacted = view.compact_revision();
        // Also if the events are still in memory: every member gives the same answer.
        if (1..compacted).contains(&request.start_revision) {
            self.compacted(slot, compacted);
        }
    }

    /// The number of the range; a new one is registered with the hub.
    fn range(&mut self, range: WatchRange) -> usize {
        if let Some(number) = self.index.get_mut(&range) {
            return *number;
        }
        let number = self.ranges.insert(StreamRange {
            range: range.clone(),
            watchers: BTreeSet::new(),
        });
        self.index.insert(&range, number);
        self.hub.register(self.id, &self.mailbox, &range, number);
        number
    }

    /// Cancels a watcher; an unknown id is ignored, as in etcd.
    pub fn cancel(&mut self, id: i64) {
        if let Some(slot) = self.by_id.get(&id).copied() {
            self.remove(slot);
            self.ready.push_back(WatchMessage {
                watch_id: id,
                revision: self.hub.view().revision(),
                content: WatchContent::Cancelled,
            });
        }
    }

    pub(super) fn remove(&mut self, slot: usize) {
        let watcher = self.watchers.remove(slot);
        self.hub.count_watchers(-1);
        self.by_id.remove(&watcher.id);
        self.behind.remove(&slot);
        let range = &mut self.ranges[watcher.range];
        self.range_bytes -= range.range.bytes();
        range.watchers.remove(&slot);
        if range.watchers.is_empty() {
            let range = self.ranges.remove(watcher.range);
            self.index.remove(&range.range);
            self.hub.unregister(self.id, &range.range);
        }
    }

    /// A watcher needs events that have been compacted: it is removed.
    pub(super) fn compacted(&mut self, slot: usize, compacted: i64) {
        let watch_id = self.watchers[slot].id;
        self.remove(slot);
        self.ready.push_back(WatchMessage {
            watch_id,
            // As in etcd.
            revision: 0,
            content: WatchContent::Compacted(compacted),
        });
    }

    /// The next message; `None` if there is none now. The stream is woken when there may be one. It
    /// is woken at once where watchers read a long part of the history that has nothing for them,
    /// so that one call takes little time.
    ///
    /// # Errors
    /// [`Error::Corrupt`] once this member's state differs from the majority's: its client watches
    /// again, at another member. All others: the engine failed. The handler of
    /// [`WatchHub::on_failure`], which stops the member, has been called.
    #[expect(
        clippy::should_implement_trait,
        reason = "it can fail, and go on after `None`"
    )]
    pub fn next(&mut self) -> Result<Option<WatchMessage>, Error> {
        loop {
            let found = self.find_next();
            if let Err(error) = &found {
                self.hub.note_failure(error);
            }
            let message = found?;
            if self.mailbox.is_cut() {
                return Err(Error::Corrupt);
            }
            // After it was found: a change of rights before its events is seen here.
            if !self.rights_moved() {
                return Ok(message);
            }
            if let Some(message) = message {
                self.ready.push_front(message);
            }
            self.check_rights();
        }
    }

    fn find_next(&mut self) -> Result<Option<WatchMessage>, Error> {
        let mut steps = 0;
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if HISTORY_STEPS_MAX <= steps {
                self.mailbox.wake();
                return Ok(None);
            }
            if self.sending.is_some() {
                self.send_to_one()?;
                continue;
            }
            // By turns: neither the history nor new revisions wait for all of the other.
            self.history_next = !self.history_next;
            if self.history_next && self.read_history()? {
                steps += 1;
                continue;
            }
            match self.mailbox.take() {
                Mail::Delivery(delivery) => {
                    let last = None;
                    self.sending = Some(Sending { delivery, last });
                }
                Mail::Dropped(revision) => self.fall_behind(revision),
                Mail::Empty if self.read_history()? => steps += 1,
                Mail::Empty if self.is_behind() => return Ok(None),
                Mail::Empty if self.answer_progress() => {}
                Mail::Empty => return Ok(None),
            }
        }
    }

    /// Revisions from this one on were dropped from the mailbox.
    fn fall_behind(&mut self, revision: i64) {
        for (slot, watcher) in &mut self.watchers {
            if !watcher.is_behind {
                watcher.next = watcher.next.max(revision);
                watcher.is_behind = true;
                self.behind.insert(slot);
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        for (_, range) in &self.ranges {
            self.hub.unregister(self.id, &range.range);
        }
        self.hub.count_watchers(-(self.watchers.len() as isize));
        self.hub.close(self.id);
    }
}
