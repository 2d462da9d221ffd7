//! What is logged of a peer that cannot be reached, and for which reason.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use keelson_port::Episode;
use tonic::{Code, Status};
use tracing::{info, warn};

use super::PeerAddress;
use crate::config::url;

/// Between two warnings of the same peer.
const WARN_EVERY: Duration = Duration::from_secs(30);

/// The log's side of one link.
pub(super) struct Trouble(Episode);

impl Trouble {
    pub(super) fn new() -> Trouble {
        Trouble(Episode::every(WARN_EVERY))
    }

    /// An attempt to reach the peer failed, or a connection did not last.
    pub(super) fn failed(&mut self, peer: &PeerAddress, why: &str) {
        if let Some(lasted) = self.0.goes_on() {
            warn!(
                peer = %peer.id,
                name = peer.name,
                urls = %url::join(&peer.urls),
                why,
                for_s = lasted.as_secs(),
                "cannot reach peer"
            );
        }
    }

    /// The peer takes messages.
    pub(super) fn over(&mut self, peer: &PeerAddress) {
        match self.0.is_over() {
            Some(lasted) => info!(
                peer = %peer.id,
                name = peer.name,
                after_s = lasted.as_secs(),
                "connected to peer again"
            ),
            None => info!(peer = %peer.id, name = peer.name, "connected to peer"),
        }
    }
}

/// What the end of a connection is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer cannot be reached, or takes no calls of this member.
    Trouble,
    /// The peer is busy with another call, or about to be founded: the next attempt is moments away.
    Deferred,
    /// It stood, and broke.
    Lost,
}

/// What the end is that came with `status`, of a connection that had lasted or not.
pub(super) fn end_of(status: &Status, had_lasted: bool) -> End {
    // What comes from the peer itself has no other error behind it.
    let is_refusal = status.source().is_none();
    match status.code() {
        Code::Aborted if is_refusal => End::Deferred,
        // A peer may take seconds to verify a call before it refuses it.
        _ if had_lasted && !is_refusal && !is_silence(status) => End::Lost,
        _ => End::Trouble,
    }
}

/// The stream ended without a word of the peer's.
pub(super) fn broken_off() -> Status {
    Status::from_error(Box::new(io::Error::other("the stream broke off")))
}

/// Whether the call ended because the peer answered nothing, not even a ping: its process is stopped, or
/// the network drops what is sent. Its kernel may go on accepting connections.
pub(super) fn is_silence(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        let timed_out = error.downcast_ref::<hyper::Error>();
        if timed_out.is_some_and(hyper::Error::is_timeout) {
            return true;
        }
        source = error.source();
    }
    false
}

/// What a failed call shows of what listens at the peer's URL.
pub(super) fn reason(status: &Status) -> String {
    if is_silence(status) {
        return "it answers nothing: its process is stopped, or the network drops what is sent"
            .to_owned();
    }
    let said = status.message();
    let not_http2 = ["http2 error", "h2 protocol error", "frame with invalid"];
    match status.code() {
        Code::Unimplemented => format!(
            "what listens there is not Keelson but another gRPC server, an etcd perhaps ({said}): all \
             members of a cluster are Keelson, or all are etcd"
        ),
        Code::FailedPrecondition | Code::PermissionDenied => said.to_owned(),
        _ if not_http2.iter().any(|text| said.contains(text)) => {
            format!("another service listens there: it does not speak HTTP/2 ({said})")
        }
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: Status, expected: &str) {
        let reason = reason(&status);
        assert!(reason.contains(expected), "{reason}");
    }

    #[test]
    fn what_listens_there_is_named() {
        check(
            Status::unimplemented("unknown service keelson_peer.Peer"),
            "an etcd perhaps",
        );
        check(
            Status::unknown("h2 protocol error: http2 error"),
            "another service",
        );
        check(
            Status::failed_precondition("cluster ID mismatch"),
            "cluster ID mismatch",
        );
        check(Status::unavailable("broken pipe"), "broken pipe");
    }
    /// Verifying a call may take longer than a connection needs to count as made: the refusal was logged
    /// as if a connection had broken.
    #[test]
    fn a_late_refusal_is_trouble_and_a_break_is_none() {
        let refusal =
            Status::unavailable("the call cannot be verified at the peer URL of member 3");
        let deferred = Status::aborted("another call of member 3 is being verified");
        for had_lasted in [false, true] {
            assert_eq!(end_of(&refusal, had_lasted), End::Trouble);
            assert_eq!(end_of(&deferred, had_lasted), End::Deferred);
        }
        assert_eq!(end_of(&broken_off(), true), End::Lost);
        assert_eq!(end_of(&broken_off(), false), End::Trouble);
    }
}
