//! A watch as its client has it.

use std::sync::Arc;

use bytes::Bytes;
use keelson_core::tree::Event;
use tokio::sync::oneshot;

use super::Hub;
use super::watcher::StreamSource;

/// Where the events of a watch come from.
pub(super) enum Source {
    Once(oneshot::Receiver<Arc<Event>>),
    Stream(StreamSource),
    Over(End),
}

/// Why a watch has no further events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its one event was delivered.
    Delivered,
    /// It was further behind, in events or bytes, than is kept for a watcher.
    Behind,
    /// The member stops, or a snapshot has replaced the history that it needed: an event may be
    /// missing.
    Cut,
}

/// A watch; dropping it ends it.
pub struct Watch {
    /// The tree's index when the watch began.
    pub index: u64,
    /// From the history, the oldest last.
    pub(super) past: Vec<Arc<Event>>,
    pub(super) hub: Arc<Hub>,
    pub(super) path: Bytes,
    /// Its number at that path; 0 if it does not wait for more than the history had.
    pub(super) id: u64,
    pub(super) source: Source,
}

impl Watch {
    /// It waits for more than the history had.
    pub(super) fn is_registered(&self) -> bool {
        self.id != 0
    }

    /// What is known already, without waiting.
    pub fn now(&mut self) -> Option<Arc<Event>> {
        self.past.pop()
    }

    /// The next event; `None` once the watch is over, for the reason that [`Watch::end`] gives.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.pop() {
            return Some(event);
        }
        let (event, end) = match &mut self.source {
            Source::Over(_) => return None,
            Source::Stream(source) => match source.next().await {
                Some(Some(event)) => return Some(event),
                Some(None) => (None, End::Behind),
                None => (None, End::Cut),
            },
            Source::Once(source) => match source.await {
                Ok(event) => (Some(event), End::Delivered),
                Err(_) => (None, End::Cut),
            },
        };
        self.source = Source::Over(end);
        event
    }

    /// Why the watch is over; `None` while it is not.
    pub fn end(&self) -> Option<End> {
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
