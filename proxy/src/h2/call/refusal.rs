//! Calls that the proxy ends itself.

use super::*;

/// etcd's own text for too much at a time: `ErrTooManyRequests`.
pub(super) const TOO_MANY: &str = "etcdserver: too many requests";

/// gRPC's codes.
pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
const INTERNAL: u8 = 13;
const DEADLINE_EXCEEDED: u8 = 4;
pub(super) const UNAVAILABLE: u8 = 14;
const FAILED_PRECONDITION: u8 = 9;
const PERMISSION_DENIED: u8 = 7;

/// etcd's own text for an outcome that is unknown: `ErrTimeoutDueToConnectionLost`.
pub(super) const CONNECTION_LOST: &str =
    "etcdserver: request timed out, possibly due to connection lost";

/// The fields before the status in an answer of trailers only.
pub(super) const HEAD: [(&[u8], &[u8]); 2] =
    [(b":status", b"200"), (b"content-type", b"application/grpc")];

impl Call {
    /// Ends a call whose time is over.
    pub(in crate::h2) fn expire(&self) {
        let text = match self.deadline_passed() {
            // The text of grpc-go's servers.
            true => "context deadline exceeded",
            false => "proxy: the rest of the call did not come in time",
        };
        let mut shared = self.shared.lock();
        if shared.state.is_finished() {
            return;
        }
        let head = shared.head();
        let upstream = self.finish(&mut shared);
        drop(shared);
        if let Some(upstream) = upstream {
            upstream.member.reset(upstream.stream, ErrorCode::CANCEL);
        }
        let block = trailers(DEADLINE_EXCEEDED, text, head);
        self.client.fields(self.stream, &block, true);
    }

    /// Answers the call without a member.
    pub(in crate::h2) fn refuse(&self, refusal: Refusal) {
        if self.is_finished() {
            return;
        }
        self.proxy.metrics.dropped(&Method::POST, refusal);
        match refusal {
            // The only text at which clientv3 repeats writes too. Nothing was executed.
            Refusal::ZeroEndpoints | Refusal::Crowded => {
                self.fail(UNAVAILABLE, "there is no connection available");
            }
            Refusal::OutcomeUnknown | Refusal::NoAnswer => self.fail(UNAVAILABLE, CONNECTION_LOST),
            Refusal::Loop => self.fail(
                FAILED_PRECONDITION,
                "proxy: this call has been here before; \
                 a member advertises a client URL that leads to a proxy",
            ),
            Refusal::Client | Refusal::Late => self.fail(INTERNAL, "proxy: the call is incomplete"),
        }
    }

    /// Refuses a write at a read-only proxy.
    pub(in crate::h2) fn forbid(&self) {
        self.fail(PERMISSION_DENIED, "proxy: this proxy is read-only");
    }

    pub(super) fn fail(&self, code: u8, text: &'static str) {
        let mut shared = self.shared.lock();
        if shared.state.is_finished() {
            return;
        }
        let head = shared.head();
        self.finish(&mut shared);
        let block = trailers(code, text, head);
        self.client.fields(self.stream, &block, true);
    }
}

pub(super) fn trailers(code: u8, text: &'static str, before: &[(&[u8], &[u8])]) -> BytesMut {
    let mut block = BytesMut::with_capacity(128);
    for (name, value) in before {
        hpack::put_field(&mut block, name, value, false);
    }
    let code = HeaderValue::from(u16::from(code));
    hpack::put_field(&mut block, b"grpc-status", code.as_bytes(), false);
    hpack::put_field(&mut block, b"grpc-message", text.as_bytes(), false);
    block
}
