//! The log of unreachable peers, with the cause.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use keelson_port::LogThrottle;
use tonic::{Code, Status};
use tracing::{info, warn};

use super::PeerAddress;
use crate::config::url;

/// The interval between two warnings about the same peer.
const WARN_EVERY: Duration = Duration::from_secs(30);

/// The log throttle of one link.
pub(super) struct LinkLog(LogThrottle);

impl LinkLog {
    pub(super) fn new() -> LinkLog {
        LinkLog(LogThrottle::every(WARN_EVERY))
    }

    /// Reports a failed attempt to connect, or a connection that did not last.
    pub(super) fn failed(&mut self, peer: &PeerAddress, why: &str) {
        if let Some(lasted) = self.0.failing() {
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

    /// Reports that the peer takes messages.
    pub(super) fn over(&mut self, peer: &PeerAddress) {
        match self.0.recovered() {
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

/// How the log treats the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkEnd {
    /// The peer is unreachable, or refuses this member's calls: a warning.
    Trouble,
    /// The peer is busy with another call, or about to be founded; the next attempt follows soon.
    Deferred,
    /// A working connection broke.
    Lost,
}

/// Classifies the end of a connection by its `status`, and by whether the connection had lasted.
pub(super) fn end_of(status: &Status, had_lasted: bool) -> LinkEnd {
    // An error of the peer itself has no source error.
    let is_refusal = status.source().is_none();
    match status.code() {
        Code::Aborted if is_refusal => LinkEnd::Deferred,
        // A peer may take seconds to verify a call before it refuses it.
        _ if had_lasted && !is_refusal && !is_silence(status) => LinkEnd::Lost,
        _ => LinkEnd::Trouble,
    }
}

/// The status for a stream that ended without a status of the peer.
pub(super) fn broken_off() -> Status {
    Status::from_error(Box::new(io::Error::other("the stream broke off")))
}

/// Whether the call ended because the peer answered neither requests nor pings: its process is
/// stopped, or the network drops its packets. Its kernel may still accept connections.
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

/// Derives from a failed call what listens at the peer's URL.
pub(super) fn reason(status: &Status) -> String {
    if is_silence(status) {
        return "it answers nothing: its process is stopped, or the network drops what is sent"
            .to_owned();
    }
    let message = status.message();
    let not_http2 = ["http2 error", "h2 protocol error", "frame with invalid"];
    match status.code() {
        Code::Unimplemented => format!(
            "what listens there is not Keelson but another gRPC server, an etcd perhaps \
             ({message}): all members of a cluster are Keelson, or all are etcd"
        ),
        Code::FailedPrecondition | Code::PermissionDenied => message.to_owned(),
        _ if not_http2.iter().any(|text| message.contains(text)) => {
            format!("another service listens there: it does not speak HTTP/2 ({message})")
        }
        _ => message.to_owned(),
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
    /// A peer may take longer to verify a call than a connection takes to count as established.
    /// Such a refusal was logged as a broken connection.
    #[test]
    fn a_late_refusal_is_trouble_and_a_break_is_none() {
        let refusal =
            Status::unavailable("the call cannot be verified at the peer URL of member 3");
        let deferred = Status::aborted("another call of member 3 is being verified");
        for had_lasted in [false, true] {
            assert_eq!(end_of(&refusal, had_lasted), LinkEnd::Trouble);
            assert_eq!(end_of(&deferred, had_lasted), LinkEnd::Deferred);
        }
        assert_eq!(end_of(&broken_off(), true), LinkEnd::Lost);
        assert_eq!(end_of(&broken_off(), false), LinkEnd::Trouble);
    }
}
