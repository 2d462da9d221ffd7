//! What a watcher waits for, and what the history has of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::state::ReadView;
use crate::tree::{Event, TreeError};

/// What a watcher waits for.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// The whole path, clean: "/1/foo".
    pub path: Bytes,
    /// Everything below it too.
    pub recursive: bool,
    /// More than the first event.
    pub stream: bool,
    /// The first index of interest; 0 is the next change.
    pub since: u64,
}

/// The past of a tree, as it is when it is looked at.
pub trait History {
    /// The tree's index now.
    fn index(&self) -> u64;

    /// The first event at or after `since`, if it has happened.
    ///
    /// # Errors
    /// The history does not reach back that far.
    fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Event>>, TreeError>;
}

impl History for ReadView {
    fn index(&self) -> u64 {
        self.tree_index()
    }

    fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
    ) -> Result<Option<Arc<Event>>, TreeError> {
        self.tree_scan(path, recursive, since)
    }
}

/// What a watcher has found in the history.
#[derive(Clone, Debug)]
pub struct HistoryScan {
    /// The tree's index at that moment.
    pub index: u64,
    /// Events of the past, the oldest last. One is enough without a stream.
    pub past: Vec<Arc<Event>>,
    /// Whether the watcher waits for events that happen after the look.
    pub waits: bool,
    /// The first index of interest that was not looked at.
    pub(super) since: u64,
}

impl HistoryScan {
    /// Looks at the history for a watcher.
    ///
    /// # Errors
    /// 401: the history does not reach back that far.
    pub fn run(spec: &WatchSpec, history: &impl History) -> Result<HistoryScan, TreeError> {
        let index = history.index();
        let mut since = match spec.since {
            0 => index + 1,
            since => since,
        };
        let mut past = Vec::new();
        while let Some(event) = history.scan(&spec.path, spec.recursive, since)? {
            since = event.index + 1;
            past.push(event);
            if !spec.stream {
                break;
            }
        }
        past.reverse();
        Ok(HistoryScan {
            index,
            waits: past.is_empty() || spec.stream,
            past,
            // Nothing up to the index is of interest any more. A later history need not reach back
            // to it.
            since: since.max(index + 1),
        })
    }
}
