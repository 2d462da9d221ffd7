//! The body of a call, and the part of it that is kept to be sent again.

use keelson_port::http2::SMALL_BYTES;
use parking_lot::MutexGuard;

use super::*;
use crate::h2::memory::{self, REQUEST_BYTES};

/// The part of a body that is kept until the answer begins, for another member.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A body of this size is forwarded before its end: half of the client's window.
const COLLECTED_BYTES_MAX: usize = 32 * 1024;

impl Call {
    /// Reserves memory for the fields. Without any, the call is refused and `false` returned.
    pub(in crate::h2) fn reserve_memory(&self) -> bool {
        let mut state = self.state.lock();
        let bytes = state.fields.len() + REQUEST_BYTES;
        let fits = memory::take(&self.proxy.kept, &self.client.quota.kept, bytes);
        state.kept = if fits { bytes } else { 0 };
        drop(state);
        if !fits {
            self.fail(RESOURCE_EXHAUSTED, TOO_MANY);
        }
        fits
    }

    /// Reserves memory for a part of the body.
    fn take(&self, state: &mut State, bytes: usize) -> bool {
        let fits = memory::take(
            &self.proxy.kept_bodies,
            &self.client.quota.kept_bodies,
            bytes,
        );
        state.kept_body += if fits { bytes } else { 0 };
        fits
    }

    pub(super) fn release_memory(&self, state: &mut State) {
        let (fields, body) = (
            std::mem::take(&mut state.kept),
            std::mem::take(&mut state.kept_body),
        );
        if fields != 0 {
            memory::give_back(&self.proxy.kept, &self.client.quota.kept, fields);
        }
        if body != 0 {
            memory::give_back(
                &self.proxy.kept_bodies,
                &self.client.quota.kept_bodies,
                body,
            );
        }
    }

    /// Drops the copy that was kept for another attempt.
    pub(super) fn forget(&self, state: &mut State) {
        state.body = BytesMut::new();
        state.fields = Bytes::new();
        self.release_memory(state);
    }

    /// The fields have been received. `body_complete`: there is no body.
    pub(in crate::h2) fn begin(self: &Arc<Call>, body_complete: bool) {
        let mut state = self.state.lock();
        state.body_complete = body_complete;
        // A unary call is forwarded with its message.
        state.begun = body_complete || !self.kind.unary;
        if state.begun {
            drop(state);
            self.forward();
        }
    }

    /// A part of the body has been received.
    pub(in crate::h2) fn data(self: &Arc<Call>, data: &[u8], end: bool) {
        let mut state = self.state.lock();
        if state.finished {
            drop(state);
            self.client.release_capacity(self.stream, data.len());
            return;
        }
        state.body_complete |= end;
        let kept = state.unrepeatable || state.answered || self.take(&mut state, data.len());
        if !state.begun {
            return self.collect(state, data, (end, kept));
        }
        if !kept {
            if state.upstream.is_none() {
                drop(state);
                return self.fail(RESOURCE_EXHAUSTED, TOO_MANY);
            }
            self.mark_unrepeatable(&mut state);
        }
        if data.len() < SMALL_BYTES && !end {
            self.client.quota.piece();
        }
        if state.keep(data) {
            self.mark_unrepeatable(&mut state);
        }
        // Without an upstream it is sent when the call is started.
        if let Some(upstream) = &state.upstream {
            let gone = upstream.member.data(upstream.stream, data, end);
            drop(state);
            self.client.release_capacity(self.stream, gone);
        }
    }

    /// Collects the body of a call that is not forwarded yet. `kept`: there is memory for it.
    fn collect(
        self: &Arc<Call>,
        mut state: MutexGuard<'_, State>,
        data: &[u8],
        (end, kept): (bool, bool),
    ) {
        state.body.extend_from_slice(data);
        // Without memory for a copy, the body is sent as it comes, or the call is refused.
        state.unrepeatable = !kept;
        let begins = end || !kept || COLLECTED_BYTES_MAX <= state.body.len();
        state.begun = begins;
        drop(state);
        if kept {
            // Else many calls that come piece by piece could exhaust the connection's window
            // together, and none could end.
            self.client.release_capacity(self.stream, data.len());
        }
        if begins {
            self.forward();
        }
    }

    /// From now on, sent bytes of the body are not kept.
    fn mark_unrepeatable(&self, state: &mut State) {
        state.unrepeatable = true;
        self.forget(state);
    }
}

impl State {
    /// Keeps a part of the body, if it can be sent again. Returns whether the copy became too
    /// large.
    fn keep(&mut self, data: &[u8]) -> bool {
        if self.answered || self.unrepeatable {
            return false;
        }
        // Without an upstream this is the only copy.
        let much = KEPT_BYTES_MAX < self.body.len() + data.len() && self.upstream.is_some();
        if !much {
            self.body.extend_from_slice(data);
        }
        much
    }
}
