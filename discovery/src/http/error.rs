//! Why an exchange failed, with the remedy.

use std::io;
use std::time::Duration;

use super::REDIRECTS_MAX;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL needs TLS.
    #[error("{0} needs TLS, which is not supported for this URL yet; use an http:// URL")]
    Tls(String),
    /// The scheme is neither `http` nor `https`, or the host is missing.
    #[error("{0} is not an http:// or https:// URL with a host; correct it")]
    NotHttp(String),
    /// `--discovery-proxy` does not allow a connection for an https URL.
    #[error(
        "the proxy {proxy} does not connect to {to}: {answer:?}; check --discovery-proxy, \
         and whether that proxy allows CONNECT to this host"
    )]
    NoTunnel {
        /// Its host and port.
        proxy: String,
        /// The host and port to connect to.
        to: String,
        /// The first line of its answer.
        answer: String,
    },
    /// The server's certificate was refused.
    #[error(
        "no TLS with {address}: {reason}; its certificate must be for that host, not expired, and \
         signed by a CA of this system's store (package ca-certificates)"
    )]
    Handshake {
        /// Host and port.
        address: String,
        /// The TLS library's reason.
        reason: String,
    },
    /// The connection was not established.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {address} within {after:?}")]
    Timeout {
        /// Host and port.
        address: String,
        /// The time limit.
        after: Duration,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("{address} closed the connection: {reason}")]
    Broken {
        /// Host and port.
        address: String,
        /// The transport's reason.
        reason: String,
    },
    /// The answer exceeds the bound.
    #[error("{address} sent more than {limit} bytes; check that the URL is a discovery service's")]
    TooLarge {
        /// Host and port.
        address: String,
        /// The bound in bytes.
        limit: usize,
    },
    /// The redirects exceed the bound.
    #[error("more than {REDIRECTS_MAX} redirects, the last to {0}; check the URL for a loop")]
    TooManyRedirects(String),
    /// The target of a redirect is not a URL.
    #[error(
        "{address} redirects to {location:?}, which is not a URL; check that the discovery \
         URL is the service's own"
    )]
    BadRedirect {
        /// Host and port.
        address: String,
        /// The `Location` header.
        location: String,
    },
}

impl HttpError {
    /// Whether a retry may help.
    pub fn is_passing(&self) -> bool {
        use HttpError::{Broken, Connect, Timeout};
        matches!(self, Connect { .. } | Timeout { .. } | Broken { .. })
    }
}
