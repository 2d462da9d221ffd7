//! The bounds of a port for its clients.

use std::time::Duration;

use crate::access::Access;
use crate::descriptors::Slots;

/// The default of [`Limits::head_bytes_max`].
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The default of [`Limits::headers_max`].
pub const HEADERS_MAX: usize = 256;

/// The bounds of a port. Every wait on a client and every buffer filled by one is here.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's backlog. What the process has descriptors
    /// for, all its ports together.
    pub slots: Slots,
    /// Requests at a time on one HTTP/2 connection.
    pub concurrent_streams_max: u32,
    /// `--cors` and `--host-whitelist`.
    pub access: Access,
    /// From accept to the first bytes.
    pub first_bytes_timeout: Duration,
    /// From the first byte of an HTTP/1.1 request's head to its last. Cuts slow-loris clients. Over
    /// HTTP/2 it is for a block of fields, and for the first settings.
    pub head_timeout: Duration,
    /// From a body's beginning to its end, where it has to come whole; over HTTP/2, for a frame of
    /// one.
    pub body_timeout: Duration,
    /// Between two HTTP/1.1 requests. Long, because etcd never closes an idle connection.
    pub idle_timeout: Duration,
    /// The head of a request, in bytes; tokens are in it.
    pub head_bytes_max: usize,
    /// Headers of a request. A proxy adds some, so it takes less of both than members do.
    pub headers_max: usize,
    /// The least interval of a client's PINGs while a request is open; without one it is two hours.
    /// `--grpc-keepalive-min-time`. `None`: only a flood ends the connection.
    pub keepalive_min: Option<Duration>,
    /// How often an idle HTTP/2 connection is pinged; `--grpc-keepalive-interval`, two hours.
    pub keepalive_interval: Option<Duration>,
    /// How long the answer to that ping may take; `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// How long requests in flight may take once shutdown has begun.
    pub drain_timeout: Duration,
}

/// The default. Clients put thousands of watches on one connection and respect
/// SETTINGS_MAX_CONCURRENT_STREAMS; without a bound a connection takes gigabytes.
const STREAMS_MAX: u32 = 4096;

impl Limits {
    /// With etcd's `--max-concurrent-streams`, whose default, `u32::MAX`, stands for ours.
    #[must_use]
    pub fn with_streams(self, flag: u32) -> Limits {
        let concurrent_streams_max = match flag {
            u32::MAX => STREAMS_MAX,
            chosen => chosen,
        };
        Limits {
            concurrent_streams_max,
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            slots: Slots::of_clients(),
            concurrent_streams_max: STREAMS_MAX,
            access: Access::default(),
            first_bytes_timeout: Duration::from_secs(15),
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(600),
            head_bytes_max: HEAD_BYTES_MAX,
            headers_max: HEADERS_MAX,
            keepalive_min: None,
            keepalive_interval: Some(Duration::from_secs(2 * 60 * 60)),
            keepalive_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
