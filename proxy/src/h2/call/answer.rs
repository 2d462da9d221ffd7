//! A call's answer, on its way to the client.

use super::*;
use crate::h2::kept;

impl Call {
    /// The member answers with fields; the last ones are trailers.
    pub(in crate::h2) fn fields(&self, block: &[u8], status: StatusCode, last: bool) {
        let mut state = self.state.lock();
        if state.over {
            return;
        }
        if !state.answered {
            state.answered = true;
            self.forget(&mut state);
            state.told = None;
            let took = self.began.elapsed();
            self.proxy.metrics.handled(&Method::POST, status, took);
        }
        self.over(&mut state, last);
        self.client.fields(self.stream, block, last);
    }

    /// The member answers with data. Returns how much of it the client has got.
    pub(in crate::h2) fn answer(&self, data: &[u8], last: bool) -> usize {
        // Until all is counted: the client's task may take it at once.
        let mut state = self.state.lock();
        if last {
            self.over(&mut state, true);
        }
        let gone = self.client.data(self.stream, data, last);
        let waits = data.len() - gone;
        if waits == 0 {
            return gone;
        }
        let (all, of_client) = (&self.proxy.unread, &self.client.share.unread);
        if kept::take_unread(all, of_client, waits) {
            state.unread += waits;
        } else {
            drop(state);
            self.is_too_much();
        }
        gone
    }

    /// There is no room for its answer. A reset, because half a message may have gone.
    fn is_too_much(&self) {
        self.client.share.reset();
        let code = match self.kind.unary {
            // "Resource exhausted" to gRPC.
            true => Code::ENHANCE_YOUR_CALM,
            // "Internal", at which clients begin their watches again.
            false => Code::INTERNAL_ERROR,
        };
        self.client.reset(self.stream, code);
        self.cancel();
        self.is_read(&mut self.state.lock(), usize::MAX);
    }

    /// The client has got more of what waited for it.
    pub(in crate::h2) fn reached_client(&self, bytes: usize) {
        let mut state = self.state.lock();
        self.is_read(&mut state, bytes);
        if let Some(place) = &state.place {
            place.member.consumed(place.stream, bytes);
        }
    }

    /// So much of what waited does not wait any more, or all of it if that is less.
    pub(super) fn is_read(&self, state: &mut State, bytes: usize) {
        let bytes = state.unread.min(bytes);
        if bytes != 0 {
            state.unread -= bytes;
            kept::give_back(&self.proxy.unread, &self.client.share.unread, bytes);
        }
    }
}
