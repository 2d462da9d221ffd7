//! The life cycle of a session: shutdown, GOAWAY, close, and overdue streams.

use super::*;

impl<O: Owner> Session<O> {
    /// Begins the shutdown: no new streams.
    pub fn shut_down(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.wake();
    }

    /// Whether new streams are opened or accepted.
    pub fn is_open(&self) -> bool {
        let state = self.state.lock();
        !state.closing && !state.closed
    }

    /// Whether a stream can be opened now.
    pub fn has_free_stream(&self) -> bool {
        let state = self.state.lock();
        !state.closing && !state.closed && state.has_free_stream()
    }

    /// Begins the shutdown of a connection that takes no new streams. Returns whether it does not.
    pub fn retire(&self) -> bool {
        let mut state = self.state.lock();
        let retires = state.closing || state.closed || state.small_frames.is_tired();
        state.closing |= retires;
        if retires {
            state.wake();
        }
        retires
    }

    /// Whether the shutdown is complete.
    pub fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.closing && state.streams.is_empty() && state.out.is_empty()
    }

    /// GOAWAY was received: streams above `last` are not processed. Returns their owners.
    pub fn recv_goaway(&self, last: u32) -> Vec<O> {
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
    pub fn close(&self) -> Vec<(O, bool)> {
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
    pub fn awaits_response(&self) -> bool {
        0 < self.state.lock().awaiting_response
    }

    /// The owners whose deadline has passed, and the next deadline.
    pub fn overdue(&self, now: Instant) -> (Vec<O>, Option<Instant>) {
        let state = self.state.lock();
        let (mut overdue, mut next) = (vec![], None);
        for entry in state.streams.values() {
            if let Some(due) = entry.owner.deadline(entry.half_closed_remote) {
                match due <= now {
                    true => overdue.push(entry.owner.clone()),
                    false => next = next.into_iter().chain([due]).min(),
                }
            }
        }
        (overdue, next)
    }

    /// All streams and their owners.
    pub fn owners(&self) -> Vec<(u32, O)> {
        let state = self.state.lock();
        let all = state.streams.iter();
        all.map(|(id, entry)| (*id, entry.owner.clone())).collect()
    }

    /// The streams whose answer has been awaited since `then` or longer.
    pub fn awaiting_since(&self, then: Instant) -> Vec<(u32, O)> {
        let state = self.state.lock();
        let overdue = |entry: &Stream<O>| entry.awaits_response.is_some_and(|since| since <= then);
        let all = state.streams.iter();
        all.filter(|(_, entry)| overdue(entry))
            .map(|(id, entry)| (*id, entry.owner.clone()))
            .collect()
    }
}
