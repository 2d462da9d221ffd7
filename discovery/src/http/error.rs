//! Why an exchange came to nothing, in words that say what to do.

use std::io;
use std::time::Duration;

use super::REDIRECTS_MAX;

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Needs TLS.
    #[error("{0} needs TLS, which is not spoken here yet; use an http:// URL")]
    Tls(String),
    /// Neither `http` nor `https`, or no host.
    #[error("{0} is not an http:// or https:// URL with a host; correct it")]
    NotHttp(String),
    /// `--discovery-proxy` does not let an https URL through.
    #[error(
        "the proxy {proxy} does not connect to {to}: {answer:?}; check --discovery-proxy, and whether that \
         proxy allows CONNECT to this host"
    )]
    NoTunnel {
        /// Its host and port.
        proxy: String,
        /// Where it should lead.
        to: String,
        /// The first line of its answer.
        answer: String,
    },
    /// The server is not whom it should be.
    #[error(
        "no TLS with {address}: {reason}; its certificate must be for that host, not expired, and \
         signed by a CA of this system's store (package ca-certificates)"
    )]
    Handshake {
        /// Host and port.
        address: String,
        /// In TLS's words.
        reason: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {address} within {after:?}")]
    Timeout {
        /// Host and port.
        address: String,
        /// How long it had.
        after: Duration,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("{address} broke off: {reason}")]
    Broken {
        /// Host and port.
        address: String,
        /// In the transport's words.
        reason: String,
    },
    /// More than anybody may send.
    #[error("{address} sent more than {limit} bytes")]
    TooLarge {
        /// Host and port.
        address: String,
        /// The bound.
        limit: usize,
    },
    /// From one address to the next and on.
    #[error("more than {REDIRECTS_MAX} redirects, the last to {0}; check the URL for a loop")]
    TooManyRedirects(String),
    /// A redirect to nowhere.
    #[error(
        "{address} redirects to {location:?}, which is not a URL; check that the discovery URL is the \
         service's own"
    )]
    BadRedirect {
        /// Host and port.
        address: String,
        /// The header.
        location: String,
    },
}

impl HttpError {
    /// Whether time may mend it.
    pub fn is_passing(&self) -> bool {
        use HttpError::{Broken, Connect, Timeout};
        matches!(self, Connect { .. } | Timeout { .. } | Broken { .. })
    }
}
