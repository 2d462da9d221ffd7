//! The ends of streams (RFC 9113, 5.1).

use super::*;

impl<O: Owner> Session<O> {
    /// Closes a client's stream once the whole answer is sent, even if the request has not ended
    /// (RFC 9113, 8.1).
    pub(super) fn close_if_half_closed(&self, state: &mut State<O>, id: u32) {
        let is_over = |entry: &Stream<O>| entry.ended && self.role == Role::Server;
        if state.streams.get(&id).is_some_and(is_over)
            && let Some(entry) = self.remove(state, id)
        {
            match entry.half_closed_remote {
                true => state.recent.add(id),
                false => state.put(|out| frame::put_rst_stream(out, id, ErrorCode::NO_ERROR)),
            }
        }
    }

    /// Closes an own stream whose answer has ended; the rest of the request is not sent.
    pub fn answered(&self, stream: u32) {
        let mut state = self.state.lock();
        if let Some(entry) = self.remove(&mut state, stream)
            && !entry.ended
        {
            state.put(|out| frame::put_rst_stream(out, stream, ErrorCode::CANCEL));
        }
    }

    /// Resets a stream. Nothing more is sent on it, and received frames are dropped.
    pub fn reset(&self, stream: u32, code: ErrorCode) {
        let mut state = self.state.lock();
        let Some(entry) = self.remove(&mut state, stream) else {
            return;
        };
        if self.role == Role::Server || entry.awaits_response.is_none() {
            return state.put(|out| frame::put_rst_stream(out, stream, code));
        }
        state.put_with(|out, state| state.resets.put(out, stream));
    }

    /// RST_STREAM was received. Returns the owner of the stream.
    pub fn recv_reset(&self, stream: u32) -> Option<O> {
        let mut state = self.state.lock();
        let removed = self.remove(&mut state, stream)?;
        state.recent.add(stream);
        Some(removed.owner)
    }

    /// Resets a stream for a stream error. Returns its owner.
    pub fn reset_with_error(&self, stream: u32, code: ErrorCode) -> Option<O> {
        let mut state = self.state.lock();
        let removed = self.remove(&mut state, stream)?;
        state.put(|out| frame::put_rst_stream(out, stream, code));
        Some(removed.owner)
    }

    pub(super) fn remove(&self, state: &mut State<O>, id: u32) -> Option<Stream<O>> {
        let entry = state.streams.remove(&id)?;
        state.windows.forget(id);
        state.small_frames.ended(id, &entry);
        if state.small_frames.may_release() {
            state.wake();
        }
        state.awaiting_response -= usize::from(entry.awaits_response.is_some());
        self.release_connection_window(state, entry.unreleased);
        Some(entry)
    }
}
