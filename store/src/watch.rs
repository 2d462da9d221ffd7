//! Watches of a `Store`: the task that delivers new revisions, and the embedder's side.

use std::sync::Arc;

use keelson_core::watch::{WatchHub, WatchMessage, WatchStream};
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use tokio::sync::{Notify, watch};

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
    pub(crate) fn new(hub: Arc<WatchHub>) -> Watches {
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
    stream: WatchStream,
    wake: Arc<Notify>,
    stopping: watch::Receiver<bool>,
}

impl KeyWatch {
    /// The next message: first one with `created`, or with `canceled` and a reason; then events,
    /// whole revisions in order. After a message with `canceled` none follows. Cancel safe.
    ///
    /// # Errors
    /// `Error::Stopped` once the member stops; `Corrupt` once its state is not the majority's;
    /// those of the storage engine.
    pub async fn next(&mut self) -> Result<WatchResponse, Error> {
        loop {
            let woken = self.wake.notified();
            if *self.stopping.borrow() {
                return Err(Error::Stopped);
            }
            if let Some(message) = self.stream.next()? {
                return Ok(self.response(&message));
            }
            tokio::select! {
                () = woken => {}
                _ = self.stopping.changed() => {}
            }
        }
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
        let mut stream = self.watch_stream(move || waker.notify_one());
        stream.create(request);
        KeyWatch {
            store: self.clone(),
            stream,
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
