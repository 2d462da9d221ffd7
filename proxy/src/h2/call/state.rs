//! The state of a call, and what is kept for another attempt.

use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::refusal::HEAD;
use super::stream::Stream;
use crate::h2::owner::Session;
use crate::http1::exchange::Failure;
use crate::policy::endpoint::Endpoint;

/// The member's stream of a call.
pub(super) struct Upstream {
    pub(super) member: Arc<Session>,
    pub(super) stream: u32,
    pub(super) endpoint: Arc<Endpoint>,
}

/// The state of a call. It only moves forward, but for a failed member: then it is `Searching`
/// again.
#[derive(Default)]
pub(super) enum CallState {
    /// The request message is collected before the call is forwarded.
    #[default]
    Collecting,
    /// The call is forwarded as soon as a member is found.
    Searching,
    /// A member has the call, and its answer has not begun.
    Sent {
        upstream: Upstream,
        /// Reports a failure to the call's own task, if it has one.
        on_failure: Option<oneshot::Sender<Failure>>,
    },
    /// The answer has begun.
    Answering(Upstream),
    /// Hubs serve the stream, and it has no member.
    Shared,
    /// The call has ended.
    Finished,
}

/// What happened to the member's stream of a call.
pub(super) enum Failed {
    /// The call had no answer: it may be repeated, by its own task if it has one.
    Unanswered(Upstream, Option<oneshot::Sender<Failure>>),
    /// The answer had begun.
    Answering(Upstream),
    /// The call had no stream.
    Nothing,
}

impl CallState {
    pub(super) fn is_finished(&self) -> bool {
        matches!(self, CallState::Finished)
    }

    pub(super) fn is_answering(&self) -> bool {
        matches!(self, CallState::Answering(_))
    }

    /// The member's stream, if there is one.
    pub(super) fn upstream(&self) -> Option<&Upstream> {
        match self {
            CallState::Sent { upstream, .. } | CallState::Answering(upstream) => Some(upstream),
            CallState::Collecting
            | CallState::Searching
            | CallState::Shared
            | CallState::Finished => None,
        }
    }

    /// The answer begins. Returns whether it was awaited.
    pub(super) fn begin_answer(&mut self) -> bool {
        match mem::replace(self, CallState::Searching) {
            CallState::Sent { upstream, .. } => {
                *self = CallState::Answering(upstream);
                true
            }
            other => {
                *self = other;
                false
            }
        }
    }

    /// The member's stream has failed. An answered call ends with it unless it `resumes`, another
    /// one is to be repeated.
    pub(super) fn fail(&mut self, resumes: bool) -> Failed {
        match mem::replace(self, CallState::Searching) {
            CallState::Sent {
                upstream,
                on_failure,
            } => Failed::Unanswered(upstream, on_failure),
            CallState::Answering(upstream) => {
                if !resumes {
                    *self = CallState::Finished;
                }
                Failed::Answering(upstream)
            }
            other => {
                *self = other;
                Failed::Nothing
            }
        }
    }

    /// The call ends. Returns the member's stream, if there is one.
    pub(super) fn finish(&mut self) -> Option<Upstream> {
        match mem::replace(self, CallState::Finished) {
            CallState::Sent { upstream, .. } | CallState::Answering(upstream) => Some(upstream),
            CallState::Collecting
            | CallState::Searching
            | CallState::Shared
            | CallState::Finished => None,
        }
    }
}

/// What the tasks of both connections share of a call.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: CallState,
    /// The field block, kept until the answer begins.
    pub(super) fields: Bytes,
    /// The bytes reserved for the fields, and for the body.
    pub(super) kept: usize,
    pub(super) kept_body: usize,
    /// The received part of the body that may have to be sent, perhaps again.
    pub(super) body: BytesMut,
    /// The whole body has been received.
    pub(super) body_complete: bool,
    /// Some of the body was sent without being kept.
    pub(super) unrepeatable: bool,
    /// The bytes of the answer that wait for the client's window.
    pub(super) unread: usize,
    /// The client has received the head of the answer.
    pub(super) head_sent: bool,
    /// The state of a stream that another member can continue.
    pub(super) stream: Option<Box<Stream>>,
    /// Of the `unread` bytes, those of an earlier member.
    pub(super) stale: usize,
    /// The bytes that wait for the member's window: of the client's data, and those before it that
    /// the proxy has written or kept.
    pub(super) waiting: usize,
    pub(super) waiting_own: usize,
}

impl Shared {
    /// The fields before the status, if the proxy ends the call itself now.
    pub(super) fn head(&self) -> &'static [(&'static [u8], &'static [u8])] {
        match self.head_sent {
            true => &[],
            false => &HEAD,
        }
    }

    /// Bytes that waited for the member's window have been sent. Returns how many of them were the
    /// client's.
    pub(super) fn sent_to_member(&mut self, bytes: usize) -> usize {
        let own = self.waiting_own.min(bytes);
        self.waiting_own -= own;
        self.waiting = self.waiting.saturating_sub(bytes - own);
        bytes - own
    }

    /// Keeps a part of the body, if it can be sent again. Returns whether the copy became larger
    /// than `bytes_max`.
    pub(super) fn keep(&mut self, data: &[u8], bytes_max: usize) -> bool {
        if self.state.is_answering() || self.unrepeatable {
            return false;
        }
        // Without an upstream this is the only copy.
        let much = bytes_max < self.body.len() + data.len() && self.state.upstream().is_some();
        if !much {
            self.body.extend_from_slice(data);
        }
        much
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_has_ended_stays_so() {
        let mut state = CallState::Finished;
        assert!(!state.begin_answer());
        assert!(matches!(state.fail(true), Failed::Nothing));
        assert!(state.finish().is_none());
        assert!(state.is_finished());
    }

    #[test]
    fn a_call_without_a_member_has_no_answer_and_no_failure() {
        for mut state in [CallState::Collecting, CallState::Searching] {
            let searching = matches!(state, CallState::Searching);
            assert!(!state.begin_answer());
            assert!(matches!(state.fail(true), Failed::Nothing));
            assert!(state.upstream().is_none());
            assert_eq!(matches!(state, CallState::Searching), searching);
        }
    }
}
