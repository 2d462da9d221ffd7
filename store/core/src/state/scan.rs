//! A scan of all rows up to a revision, in revision order, in many short reads.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::error::StateError;
use super::revision::RowKey;
use super::shared::{Memtables, Shared};
use crate::engine::{EngineError, Table};

/// A position in the rows. The engine is not held between two steps.
#[derive(Clone)]
pub(super) struct Scan {
    next: RowKey,
    /// The last main revision to visit.
    upto: i64,
}

/// The content of a row.
#[derive(Clone, Copy)]
pub(super) enum RowRef<'a> {
    /// In the engine.
    Engine(&'a [u8]),
    /// In a memtable.
    Memtable(&'a Bytes),
}

impl RowRef<'_> {
    /// The content; a memtable's row is shared, an engine's is copied.
    pub(super) fn to_bytes(self) -> Bytes {
        match self {
            RowRef::Engine(row) => Bytes::copy_from_slice(row),
            RowRef::Memtable(row) => row.clone(),
        }
    }
}

impl std::ops::Deref for RowRef<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            RowRef::Engine(row) => row,
            RowRef::Memtable(row) => row,
        }
    }
}

/// A visitor's answer: continue, or pause after this row.
pub(super) type Step = ControlFlow<()>;

impl Scan {
    pub(super) fn new(upto: i64) -> Scan {
        Scan::between(0, upto)
    }

    /// A scan from the first row of a revision on.
    pub(super) fn between(from: i64, upto: i64) -> Scan {
        Scan {
            next: RowKey::first_of(from),
            upto,
        }
    }

    /// Visits rows until the visitor pauses; false after the last row.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        visit: &mut dyn FnMut(RowKey, RowRef<'_>) -> Step,
    ) -> Result<bool, EngineError> {
        // Taken before the engine is read: a row that the memtables lack by then is in the engine.
        let memtables = shared.memtables();
        if self.engine(shared, &memtables, visit)?.is_break() {
            return Ok(true);
        }
        Ok(self.memtables(&memtables, visit).is_break())
    }

    /// Visits the engine's rows, up to the first row of the memtables.
    fn engine(
        &mut self,
        shared: &Shared,
        memtables: &Memtables,
        visit: &mut dyn FnMut(RowKey, RowRef<'_>) -> Step,
    ) -> Result<Step, EngineError> {
        let beyond = RowKey::first_of(self.upto.saturating_add(1));
        let end = memtables.first().map_or(beyond, |first| first.min(beyond));
        let (mut step, mut wrong) = (Step::Continue(()), None);
        if end <= self.next {
            return Ok(step);
        }
        let (from, from_len) = self.next.encode();
        let (to, to_len) = end.encode();
        let bounds = (
            Bound::Included(&from[..from_len]),
            Bound::Excluded(&to[..to_len]),
        );
        let next = &mut self.next;
        let engine = &shared.engine;
        engine.range(Table::Key, bounds.0, bounds.1, &mut |key, row| {
            let Some(key) = RowKey::decode(key) else {
                wrong = Some(StateError::Damaged(format!("row {key:02x?}")));
                return false;
            };
            *next = after(key);
            step = visit(key, RowRef::Engine(row));
            step.is_continue()
        })?;
        match wrong {
            Some(wrong) => Err(EngineError(wrong.to_string())),
            None => Ok(step),
        }
    }

    /// Visits the rows of the memtables.
    fn memtables(
        &mut self,
        memtables: &Memtables,
        visit: &mut dyn FnMut(RowKey, RowRef<'_>) -> Step,
    ) -> Step {
        let from = self.next;
        let immutable = memtables
            .immutable
            .iter()
            .flat_map(|immutable| immutable.from(from));
        for (key, row) in immutable.chain(memtables.active.from(from)) {
            if key.main > self.upto {
                break;
            }
            self.next = after(*key);
            visit(*key, RowRef::Memtable(row))?;
        }
        Step::Continue(())
    }
}

/// The least key after that one.
fn after(key: RowKey) -> RowKey {
    RowKey {
        main: key.main,
        sub: key.sub + 1,
        tombstone: false,
    }
}
