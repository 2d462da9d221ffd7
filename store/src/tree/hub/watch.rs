//! The client's side of a watch.

use std::sync::Arc;

use bytes::Bytes;
use keelson_core::tree::Event;
use keelson_edge::v2::WatchEnd;
use tokio::sync::oneshot;

use super::Hub;
use super::watcher::StreamSource;

/// The source of a watch's events.
pub(super) enum Source {
    Once(oneshot::Receiver<Arc<Event>>),
    Stream(StreamSource),
    Over(WatchEnd),
}

/// A watch; dropping it unregisters it.
pub struct Watch {
    /// The index of the tree when the watch began.
    pub index: u64,
    /// Events from the history, the oldest last.
    pub(super) past: Vec<Arc<Event>>,
    pub(super) hub: Arc<Hub>,
    pub(super) path: Bytes,
    /// The id of the watch at that path; 0 if the history satisfied it.
    pub(super) id: u64,
    pub(super) source: Source,
}

impl Watch {
    /// Whether the watch waits for further events.
    pub(super) fn is_registered(&self) -> bool {
        self.id != 0
    }

    /// An event that is available without waiting.
    pub fn now(&mut self) -> Option<Arc<Event>> {
        self.past.pop()
    }

    /// The next event; `None` once the watch has ended, for the reason in [`Watch::end`].
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.pop() {
            return Some(event);
        }
        let (event, end) = match &mut self.source {
            Source::Over(_) => return None,
            Source::Stream(source) => match source.next().await {
                Some(Some(event)) => return Some(event),
                Some(None) => (None, WatchEnd::Behind),
                None => (None, WatchEnd::Cut),
            },
            Source::Once(source) => match source.await {
                Ok(event) => (Some(event), WatchEnd::Delivered),
                Err(_) => (None, WatchEnd::Cut),
            },
        };
        self.source = Source::Over(end);
        event
    }

    /// Why the watch has ended; `None` before.
    pub fn end(&self) -> Option<WatchEnd> {
        match self.source {
            Source::Over(end) if self.past.is_empty() => Some(end),
            _ => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_registered() {
            self.hub.forget(&self.path, self.id);
        }
    }
}
