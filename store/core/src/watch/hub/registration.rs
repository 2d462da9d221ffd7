//! Registration of the ranges of streams.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{FanOut, Subscribers, WatchHub};
use crate::state::ReadView;
use crate::watch::WatchRange;
use crate::watch::mailbox::Mailbox;

impl WatchHub {
    /// Registers a range of a stream. Revisions after the current one are delivered to it.
    pub(in crate::watch) fn register(
        &self,
        stream: u64,
        mailbox: &Arc<Mailbox>,
        range: &WatchRange,
        number: usize,
    ) {
        let mut fan_out = self.fan_out.lock();
        if fan_out.ranges == 0 {
            self.begin(&mut fan_out);
        }
        fan_out.ranges += 1;
        let subscriber = (Arc::clone(mailbox), number);
        match fan_out.index.get_mut(range) {
            Some(subscribers) => drop(subscribers.insert(stream, subscriber)),
            None => {
                let subscribers = Subscribers::from([(stream, subscriber)]);
                fan_out.index.insert(range, subscribers);
            }
        }
        self.ranges.store(fan_out.ranges, Ordering::SeqCst);
    }

    /// Begins to follow the rows, at the first range.
    fn begin(&self, fan_out: &mut FanOut) {
        let current = self.view.read();
        let revision = current.view.revision();
        fan_out.view_number = current.number;
        fan_out.next = revision + 1;
        fan_out.forget_recent(revision + 1);
        self.delivered.store(revision, Ordering::SeqCst);
    }

    pub(in crate::watch) fn unregister(&self, stream: u64, range: &WatchRange) {
        let mut fan_out = self.fan_out.lock();
        let Some(subscribers) = fan_out.index.get_mut(range) else {
            return;
        };
        if subscribers.remove(&stream).is_none() {
            return;
        }
        if subscribers.is_empty() {
            fan_out.index.remove(range);
        }
        fan_out.ranges -= 1;
        if fan_out.ranges == 0 {
            let next = fan_out.next;
            fan_out.forget_recent(next);
            self.pairs.clear();
        }
        self.ranges.store(fan_out.ranges, Ordering::SeqCst);
    }

    /// Ends all streams: the state differs from the majority's, and so may their events.
    pub fn cut_all(&self) {
        let fan_out = self.fan_out.lock();
        fan_out.streams.values().for_each(|mailbox| mailbox.cut());
    }

    /// As [`WatchHub::replace_view`], for a state that was wrong. Its revisions mean nothing in the
    /// new one: the streams end, and new ones begin after the new state's revision.
    pub fn replace_wrong_view(&self, view: ReadView) {
        let mut fan_out = self.fan_out.lock();
        self.replace_view(view);
        self.begin(&mut fan_out);
        fan_out.streams.values().for_each(|mailbox| mailbox.cut());
    }

    pub(in crate::watch) fn close(&self, stream: u64) {
        self.fan_out.lock().streams.remove(&stream);
    }
}
