//! Watches of a `Store`: the task that delivers new revisions, and the embedder's side.

use std::future::poll_fn;
use std::sync::Arc;

use keelson_core::watch::{WatchHub, WatchMessage, WatchStream};
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use tokio::sync::{Notify, watch};

use crate::edge::waiting::Watchers;
use crate::member::fatal::Fatal;
use crate::{Error, StateError, Store};

/// With more streams than this, revisions are delivered by a task, and not by the worker.
const INLINE_STREAMS_MAX: usize = 128;

/// The hub, and the means to wake its fan-out task.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) hub: Arc<WatchHub>,
    wake: Arc<Notify>,
}

impl Watches {
    /// A stream that cannot read ends the member.
    pub(crate) fn new(hub: Arc<WatchHub>, fatal: Fatal) -> Watches {
        hub.on_failure(move |error| fatal.raise("reading events for watchers", error));
        Watches {
            hub,
            wake: Arc::default(),
        }
    }

    /// Entries were applied: the fan-out goes on if there are watchers. A short one is done here,
    /// since another task would cost more than the work: with many streams it would delay writes.
    ///
    /// # Errors
    /// The engine failed: the member must stop.
    pub(crate) fn note_applied(&self) -> Result<(), StateError> {
        if self.hub.is_behind() && self.hub.fan_out_to_few(INLINE_STREAMS_MAX)? {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Delivers new revisions until it is dropped, or until the engine fails. A step is short, and
    /// other tasks run between two steps.
    pub(crate) async fn fan_out(self, fatal: Fatal) {
        loop {
            match self.hub.fan_out() {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => self.wake.notified().await,
                Err(error) => return fatal.raise("reading events for watchers", &error),
            }
        }
    }
}

/// A watch of a program that embeds the store. Dropping it ends the watch.
pub struct KeyWatch {
    store: Store,
    watchers: Watchers,
    wake: Arc<Notify>,
    stopping: watch::Receiver<bool>,
}

impl KeyWatch {
    /// The next message: first one with `created`, or with `canceled` and a reason; then events,
    /// whole revisions in order. After a message with `canceled` none follows. Cancel safe.
    ///
    /// A message with no events and neither `created` nor `canceled` is progress: every event up to
    /// the revision of its header was returned before. It comes after
    /// [`KeyWatch::request_progress`], and with `progress_notify` at
    /// `Config::watch_progress_interval_ms`. The header of `created` has the present revision,
    /// though older events may follow.
    ///
    /// With `fragment` a revision may be in several messages: all but its last have `fragment`.
    ///
    /// # Errors
    /// `Error::Stopped` once the member stops; `Corrupt` once its state is not the majority's;
    /// those of the storage engine, which end the member.
    pub async fn next(&mut self) -> Result<WatchResponse, Error> {
        loop {
            let woken = self.wake.notified();
            if *self.stopping.borrow() {
                return Err(Error::Stopped);
            }
            if let Some(message) = self.watchers.stream.next()? {
                return Ok(self.response(&message));
            }
            tokio::select! {
                () = woken => {}
                () = poll_fn(|cx| self.watchers.poll_progress(cx)) => {}
                _ = self.stopping.changed() => {}
            }
        }
    }

    /// Requests a message of progress, at the present revision or a later one. Without an answer to
    /// the request before, both have one. There is none once the watch has ended, and with a
    /// `start_revision` in the future none before the revision ahead of that is reached.
    pub fn request_progress(&mut self) {
        self.watchers.stream.request_progress();
    }

    fn response(&self, message: &WatchMessage) -> WatchResponse {
        message.response(self.store.header().unwrap_or_default())
    }
}

impl Store {
    /// Watches a key or a range, as etcd's `Watch`: from `start_revision` on, or from the next
    /// revision. A slow reader costs a bounded amount of memory, and misses nothing; if the events
    /// that it needs are compacted, the watch ends with `compact_revision`.
    pub fn watch(&self, request: WatchCreateRequest) -> KeyWatch {
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let bytes_max = self.config().max_request_bytes;
        let mut watchers = Watchers::new(self, bytes_max, move || waker.notify_one());
        watchers.create(request);
        KeyWatch {
            store: self.clone(),
            watchers,
            wake,
            stopping: self.watch_stopping(),
        }
    }

    /// A stream of watchers. `wake` is called when it may have a message after it had none.
    pub(crate) fn watch_stream(&self, wake: impl Fn() + Send + Sync + 'static) -> WatchStream {
        let caller = Arc::clone(&self.caller);
        self.inner.watches.hub.stream(caller, wake)
    }
}
