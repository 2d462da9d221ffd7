//! A proposal or read of the lessor, one of a kind at a time.

use crate::Millis;

/// A proposal without an answer.
#[derive(Clone, Debug)]
pub(super) struct Unanswered<T> {
    pub(super) number: u64,
    pub(super) until: Millis,
    pub(super) leases: Vec<T>,
}

/// One proposal of a kind at a time.
#[derive(Clone, Debug)]
pub(super) struct Proposal<T> {
    pub(super) pending: Option<Unanswered<T>>,
    /// None is made before.
    pub(super) begin_at: Millis,
}

impl<T> Default for Proposal<T> {
    fn default() -> Proposal<T> {
        Proposal {
            pending: None,
            begin_at: Millis(0),
        }
    }
}

impl<T> Proposal<T> {
    pub(super) fn is_free(&self, now: Millis) -> bool {
        self.pending.is_none() && self.begin_at <= now
    }

    pub(super) fn take(&mut self, number: u64) -> Option<Vec<T>> {
        let pending = self.pending.take_if(|pending| pending.number == number)?;
        Some(pending.leases)
    }

    pub(super) fn late(&self, now: Millis) -> Option<u64> {
        let late = self.pending.as_ref().filter(|pending| pending.until <= now);
        late.map(|pending| pending.number)
    }

    /// When it is to be looked at; `due` is when the next one is due.
    pub(super) fn wake_at(&self, due: Millis) -> Millis {
        let begin = due.max(self.begin_at);
        self.pending.as_ref().map_or(begin, |pending| pending.until)
    }
}
