//! The life cycle of a session: shutdown, GOAWAY, close, and overdue streams.

use super::*;

impl Session {
    /// Begins the shutdown: no new streams.
    pub(in crate::h2) fn shut_down(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.wake();
    }

    /// Whether new streams are opened or accepted.
    pub(in crate::h2) fn is_open(&self) -> bool {
        let state = self.state.lock();
        !state.closing && !state.closed
    }

    /// Whether a stream can be opened now.
    pub(in crate::h2) fn has_free_stream(&self) -> bool {
        let state = self.state.lock();
        !state.closing && !state.closed && state.has_free_stream()
    }

    /// Begins the shutdown of a connection that takes no new streams. Returns whether it does not.
    pub(in crate::h2) fn retire(&self) -> bool {
        let mut state = self.state.lock();
        let retires = state.closing || state.closed || state.small_frames.is_tired();
        state.closing |= retires;
        if retires {
            state.wake();
        }
        retires
    }

    /// Whether the shutdown is complete.
    pub(in crate::h2) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.closing && state.streams.is_empty() && state.out.is_empty()
    }

    /// GOAWAY was received: streams above `last` are not processed. Returns their owners.
    pub(in crate::h2) fn recv_goaway(&self, last: u32) -> Vec<Owner> {
        let mut state = self.state.lock();
        state.closing = true;
        let unseen: Vec<_> = state.streams.keys().copied().collect();
        let unseen = unseen.into_iter().filter(|id| last < *id);
        let unseen: Vec<_> = unseen
            .filter_map(|id| self.remove(&mut state, id))
            .collect();
        unseen.into_iter().map(|entry| entry.owner).collect()
    }

    /// Closes the session. Returns the owners of its streams, and whether certainly nothing of a
    /// stream was sent.
    pub(in crate::h2) fn close(&self) -> Vec<(Owner, bool)> {
        let mut state = self.state.lock();
        state.closed = true;
        state.out = BytesMut::new();
        state.awaiting_response = 0;
        state.blocked.clear();
        let written = state.written;
        let streams = std::mem::take(&mut state.streams);
        drop(state);
        let ended = streams.into_values();
        ended
            .map(|entry| (entry.owner, written <= entry.starts))
            .collect()
    }

    /// Whether any answer is awaited.
    pub(in crate::h2) fn awaits_response(&self) -> bool {
        0 < self.state.lock().awaiting_response
    }

    /// The calls whose deadline has passed, and the next deadline.
    pub(in crate::h2) fn overdue(&self, now: Instant) -> (Vec<Arc<Call>>, Option<Instant>) {
        let state = self.state.lock();
        let (mut overdue, mut next) = (vec![], None);
        for entry in state.streams.values() {
            if let Owner::Client(call) = &entry.owner
                && let Some(due) = call.due(entry.half_closed_remote)
            {
                match due <= now {
                    true => overdue.push(Arc::clone(call)),
                    false => next = next.into_iter().chain([due]).min(),
                }
            }
        }
        (overdue, next)
    }

    /// The streams whose answer has been awaited since `then` or longer.
    pub(in crate::h2) fn awaiting_since(&self, then: Instant) -> Vec<(u32, Owner)> {
        let state = self.state.lock();
        let overdue = |entry: &Stream| entry.awaits_response.is_some_and(|since| since <= then);
        let all = state.streams.iter();
        all.filter(|(_, entry)| overdue(entry))
            .map(|(id, entry)| (*id, entry.owner.clone()))
            .collect()
    }
}
