//! grpc-go's policy on a client's keepalive: `handlePing` of `internal/transport/http2_server.go`.
//!
//! A PING that comes too early is a strike, and what the server sends for a request clears the
//! strikes. grpc-go's clients double their interval after such an end, so the texts must be its.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::gathered::Answering;
use crate::http2::frame::{self, ErrorCode};

/// The interval that is allowed without a request, unless the server permits more.
const WITHOUT_STREAM_MIN: Duration = Duration::from_secs(2 * 60 * 60);

/// More strikes end the connection.
const STRIKES_MAX: u32 = 2;

/// The debug data of the GOAWAY, for which clients look.
const TOO_MANY_PINGS: &str = "too_many_pings";

pub(super) struct PingPolicy {
    /// The least interval while a request is open. `None`: any.
    min: Option<Duration>,
    answering: Answering,
    last: Option<Instant>,
    strikes: u32,
}

impl PingPolicy {
    pub(super) fn new(min: Option<Duration>, answering: Answering) -> PingPolicy {
        PingPolicy {
            min,
            answering,
            last: None,
            strikes: 0,
        }
    }

    /// Records a PING. Whether it was one too many.
    pub(super) fn exceeded_by_one_more(&mut self) -> bool {
        let Some(min) = self.min else {
            return false;
        };
        let now = Instant::now();
        let last = self.last.replace(now);
        if self.answering.take_sent() {
            self.strikes = 0;
            return false;
        }
        let least = match self.answering.any_open() {
            true => min,
            false => WITHOUT_STREAM_MIN,
        };
        if last.is_some_and(|last| now < last + least) {
            self.strikes += 1;
        }
        STRIKES_MAX < self.strikes
    }
}

/// The GOAWAY for a client whose newest stream is `last`.
pub(super) fn too_many(last: u32) -> BytesMut {
    let mut out = BytesMut::new();
    frame::put_goaway(&mut out, last, ErrorCode::ENHANCE_YOUR_CALM, TOO_MANY_PINGS);
    out
}
