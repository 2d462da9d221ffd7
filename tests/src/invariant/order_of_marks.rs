//! The log's start <= the engine's index <= applied <= committed <= the log's end. A member whose
//! log is truncated beyond its engine's index cannot restart (etcd's `ErrSnapOutOfDate` family;
//! reference style-and-reliability.md 2.7, item 10).

use super::{Fact, Invariant, Ledger};

pub(super) struct OrderOfMarks;

impl Invariant for OrderOfMarks {
    fn name(&self) -> &'static str {
        "order of marks"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        let Fact::Status {
            member,
            status,
            applied,
            durable,
            ..
        } = fact
        else {
            return Ok(());
        };
        let start = status.first.0.saturating_sub(1);
        let marks = [
            start,
            durable.0,
            applied.0,
            status.committed.0,
            status.last.0,
        ];
        if !marks.is_sorted() {
            return Err(format!(
                "{member}: start, durable, applied, committed, last are {marks:?}"
            ));
        }
        if ledger.last_committed() < applied.0 {
            return Err(format!(
                "{member} applied {applied}, which nobody committed"
            ));
        }
        Ok(())
    }
}
