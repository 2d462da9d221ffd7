//! The answer of a call, forwarded to the client.

use super::*;
use crate::grpc_methods::Resumable;
use crate::h2::memory;

/// The status of an answer, in its head or its trailers.
#[derive(Clone, Copy)]
pub(in crate::h2) struct AnswerStatus {
    pub(in crate::h2) http: StatusCode,
    /// The member itself cannot go on; another one may.
    pub(in crate::h2) unavailable: bool,
    /// The member has no leader, and the client has requested the end of its stream then.
    pub(in crate::h2) no_leader: bool,
}

impl Call {
    /// Forwards a field block of the answer; `last`: it is the trailer section.
    pub(in crate::h2) fn fields(self: &Arc<Call>, block: &[u8], status: AnswerStatus, last: bool) {
        let mut shared = self.shared.lock();
        let begins = shared.state.begin_answer();
        if begins && !shared.head_sent {
            match shared.stream.is_some() && !last {
                true => {
                    self.keep_fields(&mut shared);
                    let watch = self.kind.resumable == Some(Resumable::Watch);
                    if watch
                        && self.hub.is_none()
                        && !shared::has_token(&shared.fields)
                        && let Some(fields) = shared::in_order(&shared.fields)
                    {
                        shared.fields = fields;
                        self.proxy.shared_watches.add(&self.proxy, self);
                    }
                }
                false => self.forget(&mut shared),
            }
            if self.hub.is_none() {
                let took = self.began.elapsed();
                self.proxy.metrics.handled(&Method::POST, status.http, took);
            }
        }
        if !shared.state.is_answering() {
            return;
        }
        if shared.head_sent && shared.stream.is_some() {
            let stream = shared.stream.as_ref();
            let resumes = stream.is_some_and(|one| one.can_resume());
            // An election follows the failure of a leader. A member that has served the stream
            // ends it after three election timeouts.
            let electing = status.no_leader && stream.is_some_and(|one| one.awaits_member());
            match (begins, last) {
                // The client has the head of an earlier member.
                (true, false) if status.http == StatusCode::OK => return,
                (_, true) if (status.unavailable || electing) && resumes => {
                    if let Failed::Answering(upstream) = shared.state.fail(true) {
                        upstream.endpoint.wake_health_check();
                    }
                    return self.resume(shared, None, false);
                }
                // A refusal, for which the client's request has to come again.
                (true, _) => return self.end_stream(&mut shared),
                (false, _) => {}
            }
        }
        shared.head_sent = true;
        if last {
            self.pass_response(&mut shared);
            self.finish(&mut shared);
        }
        self.client.fields(self.stream, block, last);
    }

    /// Forwards data of the answer. Returns how many bytes were sent at once.
    pub(in crate::h2) fn answer(self: &Arc<Call>, data: &[u8], last: bool) -> usize {
        // Held until all is counted: the client's task may send the data at once.
        let mut shared = self.shared.lock();
        if shared.stream.is_some() {
            return self.stream_answer(shared, data, last);
        }
        if last {
            self.finish(&mut shared);
        }
        let gone = self.client.data(self.stream, data, last);
        let waits = data.len() - gone;
        if waits != 0 && !self.count_unread(&mut shared, waits) {
            drop(shared);
            self.reject_answer();
        }
        gone
    }

    /// Counts bytes that wait for the client's window. Returns whether there is memory for them.
    pub(super) fn count_unread(&self, shared: &mut Shared, bytes: usize) -> bool {
        let (all, of_client) = (&self.proxy.unread, &self.client.quota.unread);
        let fits = memory::take_unread(all, of_client, bytes);
        shared.unread += if fits { bytes } else { 0 };
        fits
    }

    /// Resets the stream, as there is no memory for the answer: half a message may have been sent.
    pub(super) fn reject_answer(&self) {
        self.client.quota.reset();
        let code = match self.kind.unary {
            // "Resource exhausted" to gRPC.
            true => ErrorCode::ENHANCE_YOUR_CALM,
            // "Internal", at which clients begin their watches again.
            false => ErrorCode::INTERNAL_ERROR,
        };
        self.client.reset(self.stream, code);
        self.cancel();
        self.release_unread(&mut self.shared.lock(), usize::MAX);
    }

    /// Bytes that waited for the client's window have been sent.
    pub(in crate::h2) fn reached_client(self: &Arc<Call>, bytes: usize) {
        let mut shared = self.shared.lock();
        self.release_unread(&mut shared, bytes);
        let stale = shared.stale.min(bytes);
        shared.stale -= stale;
        if let Some(upstream) = shared.state.upstream() {
            upstream
                .member
                .release_capacity(upstream.stream, bytes - stale);
        }
        self.wake_hubs(&shared);
    }

    /// Releases the memory of answer bytes that do not wait any more.
    pub(super) fn release_unread(&self, shared: &mut Shared, bytes: usize) {
        let bytes = shared.unread.min(bytes);
        if bytes != 0 {
            shared.unread -= bytes;
            memory::give_back(&self.proxy.unread, &self.client.quota.unread, bytes);
        }
    }
}
