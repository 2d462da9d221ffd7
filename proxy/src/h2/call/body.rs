//! What comes of a call, and what is kept of it to be sent, perhaps again.

use parking_lot::MutexGuard;

use super::*;
use crate::h2::kept::{self, REQUEST_BYTES};
use crate::h2::session::SMALL_BYTES;

/// Of a body, kept until the answer begins, so that it can be sent to another member.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A body that has come to this is passed on before its end: a client may send so much before it
/// has to wait.
const COLLECTED_BYTES_MAX: usize = 32 * 1024;

impl Call {
    /// Takes room for what is kept of it. Returns whether there was any; if not, it is refused.
    pub(in crate::h2) fn take_room(&self) -> bool {
        let mut state = self.state.lock();
        let bytes = state.fields.len() + REQUEST_BYTES;
        let fits = kept::take(&self.proxy.kept, &self.client.share.kept, bytes);
        state.kept = if fits { bytes } else { 0 };
        drop(state);
        if !fits {
            self.end(RESOURCE_EXHAUSTED, TOO_MANY);
        }
        fits
    }

    /// The same for some of its body.
    fn take(&self, state: &mut State, bytes: usize) -> bool {
        let fits = kept::take(
            &self.proxy.kept_bodies,
            &self.client.share.kept_bodies,
            bytes,
        );
        state.kept_body += if fits { bytes } else { 0 };
        fits
    }

    pub(super) fn give_back(&self, state: &mut State) {
        let (fields, body) = (
            std::mem::take(&mut state.kept),
            std::mem::take(&mut state.kept_body),
        );
        if fields != 0 {
            kept::give_back(&self.proxy.kept, &self.client.share.kept, fields);
        }
        if body != 0 {
            kept::give_back(
                &self.proxy.kept_bodies,
                &self.client.share.kept_bodies,
                body,
            );
        }
    }

    /// Forgets what was kept to send it again.
    pub(super) fn forget(&self, state: &mut State) {
        state.body = BytesMut::new();
        state.fields = Bytes::new();
        self.give_back(state);
    }

    /// Its fields have come, and `whole`: nothing else will.
    pub(in crate::h2) fn begin(self: &Arc<Call>, whole: bool) {
        let mut state = self.state.lock();
        state.whole = whole;
        // One message is worth waiting for.
        state.begun = whole || !self.kind.unary;
        if state.begun {
            drop(state);
            self.hand_on();
        }
    }

    /// Some of its body has come.
    pub(in crate::h2) fn data(self: &Arc<Call>, data: &[u8], end: bool) {
        let mut state = self.state.lock();
        if state.over {
            drop(state);
            self.client.consumed(self.stream, data.len());
            return;
        }
        state.whole |= end;
        let kept = state.torn || state.answered || self.take(&mut state, data.len());
        if !state.begun {
            return self.collect(state, data, (end, kept));
        }
        if !kept {
            if state.place.is_none() {
                drop(state);
                return self.end(RESOURCE_EXHAUSTED, TOO_MANY);
            }
            self.tear(&mut state);
        }
        if data.len() < SMALL_BYTES && !end {
            self.client.share.piece();
        }
        if state.keep(data) {
            self.tear(&mut state);
        }
        // Otherwise it goes when the call does.
        if let Some(place) = &state.place {
            let gone = place.member.data(place.stream, data, end);
            drop(state);
            self.client.consumed(self.stream, gone);
        }
    }

    /// The same of a call that has not begun; `kept`: there was room for it.
    fn collect(
        self: &Arc<Call>,
        mut state: MutexGuard<'_, State>,
        data: &[u8],
        (end, kept): (bool, bool),
    ) {
        state.body.extend_from_slice(data);
        // What cannot be kept goes as it comes, or not at all.
        state.torn = !kept;
        let begins = end || !kept || COLLECTED_BYTES_MAX <= state.body.len();
        state.begun = begins;
        drop(state);
        if kept {
            // Or else many calls that come piece by piece could fill the connection's window
            // together, and none would get its rest.
            self.client.consumed(self.stream, data.len());
        }
        if begins {
            self.hand_on();
        }
    }

    /// What has gone of its body is not kept any more.
    fn tear(&self, state: &mut State) {
        state.torn = true;
        self.forget(state);
    }
}

impl State {
    /// Keeps some of the body, if that can be sent again. Returns whether it has become too much
    /// for that.
    fn keep(&mut self, data: &[u8]) -> bool {
        if self.answered || self.torn {
            return false;
        }
        // What has no place yet is all that there is.
        let much = KEPT_BYTES_MAX < self.body.len() + data.len() && self.place.is_some();
        if !much {
            self.body.extend_from_slice(data);
        }
        much
    }
}
