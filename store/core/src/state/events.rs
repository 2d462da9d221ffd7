//! The events of past revisions, read from the rows.
//!
//! Rows lie in revision order and never change: the memtables and the engine together are the log
//! of events. A row of a memtable is shared with the events that are made of it.

use std::sync::Arc;

use bytes::Bytes;

use super::revision::RowKey;
use super::rows;
use super::scan::{RowRef, Scan, Step};
use super::shared::{Shared, missing};
use super::{Error, ReadView};
use crate::engine::{EngineError, Table};
use crate::watch::{RevisionEvents, WatchEvent};

/// The size of one read. It ends with a complete revision, which may exceed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventBudget {
    /// The rows that are read.
    pub(crate) rows: usize,
    /// The bytes of the rows that are taken.
    pub(crate) bytes: usize,
}

/// Events of a span of revisions.
#[derive(Debug)]
pub(crate) struct EventSpan {
    /// Revisions with at least one event, in order.
    pub(crate) revisions: Vec<Arc<RevisionEvents>>,
    /// The first revision that was not read.
    pub(crate) next: i64,
}

impl ReadView {
    /// The events of `from..=upto` on keys for which `takes` is true. The caller ensures that no
    /// row of them is deleted meanwhile, or checks for a compaction afterwards.
    pub(crate) fn events(
        &self,
        from: i64,
        upto: i64,
        budget: EventBudget,
        takes: &dyn Fn(&[u8]) -> bool,
    ) -> Result<EventSpan, Error> {
        let mut reader = EventReader {
            budget,
            takes,
            revisions: Vec::new(),
            last: None,
            wrong: None,
        };
        let mut scan = Scan::between(from, upto);
        let more = scan.step(&self.shared, &mut |key, row| reader.take(key, row))?;
        if let Some(wrong) = reader.wrong {
            return Err(wrong.into());
        }
        let next = match (more, reader.last) {
            // The row that paused the scan begins a revision that was not taken.
            (true, Some(last)) => last.main,
            _ => upto + 1,
        };
        Ok(EventSpan {
            revisions: reader.revisions.into_iter().map(Arc::new).collect(),
            next,
        })
    }

    /// The events of `from..=upto` on one key, by the key index: without reading other rows.
    pub(crate) fn key_events(
        &self,
        key: &[u8],
        from: i64,
        upto: i64,
        budget: EventBudget,
    ) -> Result<EventSpan, Error> {
        let (mut rows, mut next) = (budget.rows, upto + 1);
        let mut found = self.shared.index.since(key, from, rows);
        // A revision is read whole: an open-ended delete and a put may both be of this key.
        while found.len() == rows
            && let Some(last) = found.last().map(|row| row.main)
        {
            if found[0].main < last {
                found.retain(|row| row.main < last);
                next = next.min(last);
                break;
            }
            rows *= 2;
            found = self.shared.index.since(key, from, rows);
        }
        let (mut revisions, mut bytes) = (Vec::<RevisionEvents>::new(), 0);
        for row in found.into_iter().take_while(|row| row.main <= upto) {
            let begins = revisions.last().is_none_or(|last| last.revision < row.main);
            if begins && budget.bytes <= bytes {
                next = row.main;
                break;
            }
            // A compaction may have deleted it since; the caller checks for that.
            if let Some(content) = raw(&self.shared, row)? {
                bytes += content.len();
                if begins {
                    revisions.push(RevisionEvents::new(row.main));
                }
                let revision = revisions.last_mut().expect("one has begun");
                revision.push(event_of(row, content)?);
            }
        }
        Ok(EventSpan {
            revisions: revisions.into_iter().map(Arc::new).collect(),
            next,
        })
    }

    /// The pair of the key before a revision, encoded; `None` if there was none or if it has been
    /// compacted.
    pub(crate) fn previous(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, Error> {
        let before = revision - 1;
        if before < self.shared.compacted() {
            return Ok(None);
        }
        match self.shared.index.at(key, before) {
            Some(row) => Ok(raw(&self.shared, row)?),
            None => Ok(None),
        }
    }
}

/// Collects the events of whole revisions.
struct EventReader<'a> {
    budget: EventBudget,
    takes: &'a dyn Fn(&[u8]) -> bool,
    revisions: Vec<RevisionEvents>,
    /// The last row that was read.
    last: Option<RowKey>,
    wrong: Option<EngineError>,
}

impl EventReader<'_> {
    fn take(&mut self, key: RowKey, row: RowRef<'_>) -> Step {
        let begins = self.last.is_none_or(|last| last.main < key.main);
        let spent = self.budget.rows == 0 || self.budget.bytes == 0;
        if begins && self.last.is_some() && spent {
            self.last = Some(key);
            return Step::Break(());
        }
        self.last = Some(key);
        self.budget.rows = self.budget.rows.saturating_sub(1);
        match self.event(key, row) {
            Ok(None) => Step::Continue(()),
            Ok(Some(event)) => {
                self.budget.bytes = self.budget.bytes.saturating_sub(row.len());
                if self.revisions.last().map(|last| last.revision) != Some(key.main) {
                    self.revisions.push(RevisionEvents::new(key.main));
                }
                let revision = self.revisions.last_mut().expect("it was just pushed");
                revision.push(event);
                Step::Continue(())
            }
            Err(wrong) => {
                self.wrong = Some(wrong);
                Step::Break(())
            }
        }
    }

    fn event(&self, key: RowKey, row: RowRef<'_>) -> Result<Option<WatchEvent>, EngineError> {
        let peek = rows::peek(&row).ok_or_else(|| damaged(key))?;
        if !(self.takes)(peek.key) {
            return Ok(None);
        }
        event_of(key, row.to_bytes()).map(Some)
    }
}

/// The event of a row.
fn event_of(key: RowKey, content: Bytes) -> Result<WatchEvent, EngineError> {
    let peek = rows::peek(&content).ok_or_else(|| damaged(key))?;
    let name = content.slice_ref(peek.key);
    Ok(match key.tombstone {
        true => WatchEvent::delete(name, key.main),
        false => {
            let is_create = peek.created == key.main;
            WatchEvent::put(name, content, is_create)
        }
    })
}

fn damaged(key: RowKey) -> EngineError {
    EngineError(format!("damaged row of revision {}_{}", key.main, key.sub))
}

/// The content of a row; `None` if a compaction has deleted it.
fn raw(shared: &Shared, key: RowKey) -> Result<Option<Bytes>, EngineError> {
    let memtables = shared.memtables();
    let fresh = memtables.active.get(key);
    let fresh = fresh.or_else(|| memtables.immutable.as_ref()?.get(key));
    if let Some(row) = fresh {
        return Ok(Some(row.clone()));
    }
    let (bytes, len) = key.encode();
    let row = shared.engine.get(Table::Key, &bytes[..len])?;
    match row {
        None if shared.compacted() < key.main => Err(missing(key)),
        row => Ok(row),
    }
}
