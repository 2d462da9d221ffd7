//! Messages that state how far watchers are: on request, and periodically.

use super::message::{NO_WATCH, WatchContent, WatchMessage};
use super::{WatchHub, WatchStream};

impl WatchStream {
    /// Requests a message that states how far all watchers are. It is sent once all of them have
    /// been sent everything up to the present revision; without watchers it is not sent.
    pub fn request_progress(&mut self) {
        if !self.is_empty() {
            self.progress = Some(self.hub.view().revision());
        }
    }

    /// The time for periodic progress has come. Watchers that had events since, or that are behind,
    /// get none.
    pub fn notify_progress(&mut self) {
        let is_idle = self.ready.is_empty() && self.sending.is_none();
        let hub = &self.hub;
        let delivered = self.mailbox.when_empty(|| hub.delivered());
        let delivered = delivered.filter(|_| is_idle);
        for (_, watcher) in &mut self.watchers {
            let quiet = std::mem::replace(&mut watcher.is_quiet, true);
            let due = watcher.notify && quiet && !watcher.is_behind;
            if let Some(revision) = delivered.filter(|revision| due && watcher.next <= revision + 1)
            {
                self.ready.push_back(WatchMessage {
                    watch_id: watcher.id,
                    revision,
                    content: WatchContent::Progress,
                });
            }
        }
    }

    /// Answers a progress request, if all watchers have been sent everything up to a revision.
    /// Returns whether it is answered.
    pub(super) fn answer_progress(&mut self) -> bool {
        let Some(least) = self.progress else {
            return false;
        };
        let hub = &self.hub;
        let delivered = self.mailbox.when_empty(|| hub.delivered());
        let Some(revision) = delivered else {
            return true;
        };
        let mut watchers = self.watchers.iter();
        // A watcher of a future revision: its client must not resume before that (etcd#20221).
        let all = watchers.all(|(_, watcher)| watcher.next <= revision + 1);
        if revision < least || !all {
            self.hub.wake_at_next(&self.mailbox);
            // A revision may have been delivered in between.
            return hub_moved(&self.hub, revision);
        }
        self.progress = None;
        self.ready.push_back(WatchMessage {
            watch_id: NO_WATCH,
            revision,
            content: WatchContent::Progress,
        });
        true
    }
}

fn hub_moved(hub: &WatchHub, since: i64) -> bool {
    hub.delivered() != since
}
