//! Streams end, each in its way.

use super::*;

impl Session {
    /// A client's stream is closed when all of the answer is sent, even if the request has not ended.
    pub(super) fn said_all(&self, state: &mut State, id: u32) {
        let is_over = |known: &Stream| known.ended && self.end == End::Server;
        if state.streams.get(&id).is_some_and(is_over)
            && let Some(known) = self.remove(state, id)
        {
            match known.heard_all {
                true => state.recent.add(id),
                false => state.put(|out| frame::put_reset(out, id, Code::NO_ERROR)),
            }
        }
    }

    /// A stream at a member is over when its answer is, whatever was still to be sent.
    pub(in crate::h2) fn answered(&self, stream: u32) {
        let mut state = self.state.lock();
        if let Some(known) = self.remove(&mut state, stream)
            && !known.ended
        {
            state.put(|out| frame::put_reset(out, stream, Code::CANCEL));
        }
    }

    /// Ends a stream at once; nothing more is sent, and what comes is dropped.
    pub(in crate::h2) fn reset(&self, stream: u32, code: Code) {
        let mut state = self.state.lock();
        let Some(known) = self.remove(&mut state, stream) else {
            return;
        };
        if self.end == End::Server || known.awaits.is_none() {
            return state.put(|out| frame::put_reset(out, stream, code));
        }
        state.put_with(|out, state| state.resets.put(out, stream));
    }

    /// The other end has ended a stream at once. Returns its owner.
    pub(in crate::h2) fn was_reset(&self, stream: u32) -> Option<Owner> {
        let mut state = self.state.lock();
        let removed = self.remove(&mut state, stream)?;
        state.recent.add(stream);
        Some(removed.owner)
    }

    /// Ends a stream of the other end over what came of it. Returns its owner.
    pub(in crate::h2) fn break_off(&self, stream: u32, code: Code) -> Option<Owner> {
        let mut state = self.state.lock();
        let removed = self.remove(&mut state, stream)?;
        state.put(|out| frame::put_reset(out, stream, code));
        Some(removed.owner)
    }

    pub(super) fn remove(&self, state: &mut State, id: u32) -> Option<Stream> {
        let known = state.streams.remove(&id)?;
        state.windows.forget(id);
        state.pieces.ended(id, &known);
        if state.pieces.may_release() {
            state.wake();
        }
        state.awaiting -= usize::from(known.awaits.is_some());
        self.credit(state, known.held);
        Some(known)
    }
}
