//! An outline of the log without payloads: enough to distinguish a conflict from a continuation.

use keelson_core::{HardState, Index, LastIncluded, Term};

/// The outline of the log. Writing and replaying update it by the same rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) hard_state: HardState,
    pub(super) mark: LastIncluded,
    /// The index of the last entry, or of the mark if no entry follows it.
    pub(super) last: Index,
    /// The first index of each term, among the entries after the mark.
    runs: Vec<(Index, Term)>,
}

impl Log {
    /// The outline at the start of a segment, from the header's copy of older segments.
    pub(super) fn new(hard_state: HardState, mark: LastIncluded) -> Log {
        Log {
            hard_state,
            mark,
            last: mark.index,
            runs: Vec::new(),
        }
    }

    /// Whether an entry is allowed at `index`: after the mark, without a gap.
    pub(super) fn admits(&self, index: Index) -> bool {
        self.mark.index < index && index.0 <= self.last.0 + 1
    }

    /// As [`Log::admits`], during a replay: the entries before the first one may have been
    /// removed with their segment, if a later mark covers them.
    pub(super) fn admits_replayed(&self, index: Index) -> bool {
        self.admits(index) || (self.runs.is_empty() && self.mark.index < index)
    }

    /// Adds an entry. One at or below the last replaces it and all that follow (Raft 5.3).
    pub(super) fn push(&mut self, index: Index, term: Term) {
        if index <= self.last {
            while self.runs.last().is_some_and(|(first, _)| index <= *first) {
                self.runs.pop();
            }
        }
        if self
            .runs
            .last()
            .is_none_or(|(_, last_term)| *last_term != term)
        {
            self.runs.push((index, term));
        }
        self.last = index;
    }

    /// Whether the log has the entry at the mark, so that the following entries can stay.
    pub(super) fn holds(&self, mark: LastIncluded) -> bool {
        let before = self.runs.partition_point(|(first, _)| *first <= mark.index);
        let run = before.checked_sub(1).map(|run| self.runs[run].1);
        mark.index <= self.last && run == Some(mark.term)
    }

    /// Moves the mark; later entries stay only if `kept`.
    pub(super) fn set_mark(&mut self, mark: LastIncluded, kept: bool) {
        self.mark = mark;
        if !kept || self.last <= mark.index {
            self.runs.clear();
            self.last = mark.index;
            return;
        }
        let behind = mark.index.0 + 1;
        let passed = self.runs.partition_point(|(first, _)| first.0 <= behind);
        self.runs.drain(..passed.saturating_sub(1));
        if let Some((first, _)) = self.runs.first_mut() {
            *first = Index(first.0.max(behind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(index: u64, term: u64) -> LastIncluded {
        LastIncluded {
            index: Index(index),
            term: Term(term),
        }
    }

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::default();
        for (index, term) in (1..).zip(terms) {
            assert!(log.admits(Index(index)));
            log.push(Index(index), Term(*term));
        }
        log
    }

    #[test]
    fn conflicts_replace_what_follows() {
        let mut log = log(&[1, 1, 2, 2, 3]);
        log.push(Index(3), Term(4));
        assert_eq!(log.last, Index(3));
        assert!(log.holds(mark(2, 1)));
        assert!(log.holds(mark(3, 4)));
        assert!(!log.holds(mark(3, 2)));
        assert!(!log.holds(mark(4, 2)));
        assert!(!log.admits(Index(5)));
    }

    #[test]
    fn only_a_kept_mark_keeps_the_entries_after_it() {
        let mut kept = log(&[1, 1, 2, 2, 3]);
        kept.set_mark(mark(3, 2), true);
        assert_eq!(kept.last, Index(5));
        assert!(kept.holds(mark(4, 2)));
        assert!(kept.holds(mark(5, 3)));
        assert!(!kept.holds(mark(3, 2)));
        let mut cleared = log(&[1, 1, 2]);
        cleared.set_mark(mark(2, 7), false);
        assert_eq!(cleared.last, Index(2));
        assert!(cleared.admits(Index(3)));
        assert!(!cleared.admits(Index(2)));
    }
}
