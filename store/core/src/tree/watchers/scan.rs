//! The parameters of a watch, and its scan of the history.

use std::sync::Arc;

use bytes::Bytes;

use crate::state::ReadView;
use crate::tree::{Event, TreeError};

/// The parameters of a watch.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// The whole path, clean: "/1/foo".
    pub path: Bytes,
    /// Watch everything below the path, too.
    pub recursive: bool,
    /// Deliver more than the first event.
    pub stream: bool,
    /// The first index to watch; 0 is the next change.
    pub since: u64,
}

/// The history of a tree at one moment.
pub trait History {
    /// The tree's current index.
    fn index(&self) -> u64;

    /// The first event at or after `since`, if there is one yet.
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

/// The result of a watcher's scan of the history.
#[derive(Clone, Debug)]
pub struct HistoryScan {
    /// The tree's index at the scan.
    pub index: u64,
    /// Past events, the oldest last. Without a stream, at most one.
    pub past: Vec<Arc<Event>>,
    /// Whether the watcher waits for events after the scan.
    pub waits: bool,
    /// The first index that the scan did not cover.
    pub(super) since: u64,
}

impl HistoryScan {
    /// Scans the history for a watcher.
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
            // The scan has covered everything up to the index. A later history need not reach back
            // to it.
            since: since.max(index + 1),
        })
    }
}
