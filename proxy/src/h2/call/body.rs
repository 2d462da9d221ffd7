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
        let mut shared = self.shared.lock();
        let bytes = shared.fields.len() + REQUEST_BYTES;
        let fits = memory::take(&self.proxy.kept, &self.client.quota.kept, bytes);
        shared.kept = if fits { bytes } else { 0 };
        drop(shared);
        if !fits {
            self.fail(RESOURCE_EXHAUSTED, TOO_MANY);
        }
        fits
    }

    /// Reserves memory for a part of the body.
    pub(super) fn take(&self, shared: &mut Shared, bytes: usize) -> bool {
        let fits = memory::take(
            &self.proxy.kept_bodies,
            &self.client.quota.kept_bodies,
            bytes,
        );
        shared.kept_body += if fits { bytes } else { 0 };
        fits
    }

    pub(super) fn release_memory(&self, shared: &mut Shared) {
        let (fields, body) = (
            std::mem::take(&mut shared.kept),
            std::mem::take(&mut shared.kept_body),
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
    pub(super) fn forget(&self, shared: &mut Shared) {
        shared.body = BytesMut::new();
        shared.fields = Bytes::new();
        self.release_memory(shared);
    }

    /// The fields have been received. `body_complete`: there is no body.
    pub(in crate::h2) fn begin(self: &Arc<Call>, body_complete: bool) {
        let mut shared = self.shared.lock();
        shared.body_complete = body_complete;
        // A unary call is forwarded with its message.
        if body_complete || !self.kind.unary {
            shared.state = CallState::Searching;
            drop(shared);
            self.forward();
        }
    }

    /// A part of the body has been received.
    pub(in crate::h2) fn data(self: &Arc<Call>, data: &[u8], end: bool) {
        let mut shared = self.shared.lock();
        if shared.state.is_finished() {
            drop(shared);
            self.client.release_capacity(self.stream, data.len());
            return;
        }
        shared.body_complete |= end;
        let unread;
        let data = match shared.stream.is_some() {
            false => data,
            true => match self.stream_data(&mut shared, data, end) {
                None => return self.continue_on_member(shared),
                Some(rest) => {
                    unread = rest;
                    &unread
                }
            },
        };
        if shared.state.is_finished() {
            return;
        }
        let unkept = shared.unrepeatable || shared.state.is_answering();
        let kept = unkept || self.take(&mut shared, data.len());
        if matches!(shared.state, CallState::Collecting) {
            return self.collect(shared, data, (end, kept));
        }
        if !kept {
            if shared.state.upstream().is_none() {
                drop(shared);
                return self.fail(RESOURCE_EXHAUSTED, TOO_MANY);
            }
            self.mark_unrepeatable(&mut shared);
        }
        if data.len() < SMALL_BYTES && !end {
            self.client.quota.piece();
        }
        if shared.keep(data, KEPT_BYTES_MAX) {
            self.mark_unrepeatable(&mut shared);
        }
        // Without an upstream it is sent when the call is started.
        if let Some(upstream) = shared.state.upstream() {
            let gone = upstream.member.data(upstream.stream, data, end);
            drop(shared);
            self.client.release_capacity(self.stream, gone);
        }
    }

    /// Collects the body of a call that is not forwarded yet. `kept`: there is memory for it.
    fn collect(
        self: &Arc<Call>,
        mut shared: MutexGuard<'_, Shared>,
        data: &[u8],
        (end, kept): (bool, bool),
    ) {
        shared.body.extend_from_slice(data);
        // Without memory for a copy, the body is sent as it comes, or the call is refused.
        shared.unrepeatable = !kept;
        let begins = end || !kept || COLLECTED_BYTES_MAX <= shared.body.len();
        if begins {
            shared.state = CallState::Searching;
        }
        drop(shared);
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
    fn mark_unrepeatable(&self, shared: &mut Shared) {
        shared.unrepeatable = true;
        self.forget(shared);
    }
}

#[cfg(test)]
mod tests;
