//! The answer of a call, forwarded to the client.

use super::*;
use crate::h2::memory;

impl Call {
    /// Forwards a field block of the answer; `last`: it is the trailer section.
    pub(in crate::h2) fn fields(&self, block: &[u8], status: StatusCode, last: bool) {
        let mut shared = self.shared.lock();
        if shared.state.begin_answer() {
            self.forget(&mut shared);
            let took = self.began.elapsed();
            self.proxy.metrics.handled(&Method::POST, status, took);
        }
        if !shared.state.is_answering() {
            return;
        }
        if last {
            self.finish(&mut shared);
        }
        self.client.fields(self.stream, block, last);
    }

    /// Forwards data of the answer. Returns how many bytes were sent at once.
    pub(in crate::h2) fn answer(&self, data: &[u8], last: bool) -> usize {
        // Held until all is counted: the client's task may send the data at once.
        let mut shared = self.shared.lock();
        if last {
            self.finish(&mut shared);
        }
        let gone = self.client.data(self.stream, data, last);
        let waits = data.len() - gone;
        if waits == 0 {
            return gone;
        }
        let (all, of_client) = (&self.proxy.unread, &self.client.quota.unread);
        if memory::take_unread(all, of_client, waits) {
            shared.unread += waits;
        } else {
            drop(shared);
            self.reject_answer();
        }
        gone
    }

    /// Resets the stream, as there is no memory for the answer: half a message may have been sent.
    fn reject_answer(&self) {
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
    pub(in crate::h2) fn reached_client(&self, bytes: usize) {
        let mut shared = self.shared.lock();
        self.release_unread(&mut shared, bytes);
        if let Some(upstream) = shared.state.upstream() {
            upstream.member.release_capacity(upstream.stream, bytes);
        }
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
