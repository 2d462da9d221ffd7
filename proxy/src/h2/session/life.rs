//! How long a session takes streams, and what becomes of them at its end.

use super::*;

impl Session {
    /// There will be no new streams.
    pub(in crate::h2) fn close_gently(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.wake();
    }

    /// Whether new streams can be begun.
    pub(in crate::h2) fn is_open(&self) -> bool {
        let state = self.state.lock();
        !state.closing && !state.closed
    }

    /// Whether a new call should be begun here.
    pub(in crate::h2) fn has_place(&self) -> bool {
        let state = self.state.lock();
        !state.closing && !state.closed && state.has_place()
    }

    /// Ends when its streams have, if it bears no new ones.
    pub(in crate::h2) fn retire(&self) -> bool {
        let mut state = self.state.lock();
        let retires = state.closing || state.closed || state.pieces.is_tired();
        state.closing |= retires;
        if retires {
            state.wake();
        }
        retires
    }

    /// Whether there is nothing left to do, ever.
    pub(in crate::h2) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.closing && state.streams.is_empty() && state.out.is_empty()
    }

    /// The other end has not looked at streams after this one, and will not.
    pub(in crate::h2) fn went_away(&self, last: u32) -> Vec<Owner> {
        let mut state = self.state.lock();
        state.closing = true;
        let unseen: Vec<_> = state.streams.keys().copied().collect();
        let unseen = unseen.into_iter().filter(|id| last < *id);
        let unseen: Vec<_> = unseen
            .filter_map(|id| self.remove(&mut state, id))
            .collect();
        unseen.into_iter().map(|known| known.owner).collect()
    }

    /// The connection has ended. Returns whose streams end with it, and of which of them the other
    /// end has surely got nothing.
    pub(in crate::h2) fn close(&self) -> Vec<(Owner, bool)> {
        let mut state = self.state.lock();
        state.closed = true;
        state.out = BytesMut::new();
        state.awaiting = 0;
        state.held_up.clear();
        let written = state.written;
        let streams = std::mem::take(&mut state.streams);
        drop(state);
        let ended = streams.into_values();
        ended
            .map(|known| (known.owner, written <= known.starts))
            .collect()
    }

    /// Whether any answer has not begun.
    pub(in crate::h2) fn awaits(&self) -> bool {
        0 < self.state.lock().awaiting
    }

    /// The clients' calls that have taken too long by now, and when the next one will have.
    pub(in crate::h2) fn overdue(&self, now: Instant) -> (Vec<Arc<Call>>, Option<Instant>) {
        let state = self.state.lock();
        let (mut overdue, mut next) = (vec![], None);
        for known in state.streams.values() {
            if let Owner::Client(call) = &known.owner
                && let Some(due) = call.due(known.heard_all)
            {
                match due <= now {
                    true => overdue.push(Arc::clone(call)),
                    false => next = next.into_iter().chain([due]).min(),
                }
            }
        }
        (overdue, next)
    }

    /// The calls whose answer is awaited since then, or longer.
    pub(in crate::h2) fn awaiting_since(&self, then: Instant) -> Vec<(u32, Owner)> {
        let state = self.state.lock();
        let overdue = |known: &Stream| known.awaits.is_some_and(|since| since <= then);
        let all = state.streams.iter();
        all.filter(|(_, known)| overdue(known))
            .map(|(id, known)| (*id, known.owner.clone()))
            .collect()
    }
}
