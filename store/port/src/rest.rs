//! Idle HTTP/1.1 connections without hyper's buffers.
//!
//! Clients keep connections for hours between two requests, and hyper keeps some 12 KiB for each. A
//! connection that is idle for a moment leaves hyper and becomes a socket that waits until it is
//! readable. Its next request is served by a new hyper connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{self, Instant, Sleep};

use crate::head_clock::Heads;

/// The pause between the first two checks. It is short: a thousand clients that come at once with
/// one request each must not all keep their buffers.
const LOOK_MIN: Duration = Duration::from_millis(20);

/// The longest pause between two checks of a busy connection.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Detects an idle connection by a check at intervals, so that a busy connection pays nothing.
pub(crate) struct Rest {
    heads: Heads,
    /// The state at the last check.
    seen: Option<u64>,
    pause: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Rest {
    pub(crate) fn new(heads: Heads) -> Rest {
        Rest {
            heads,
            seen: None,
            pause: LOOK_MIN,
            alarm: Box::pin(time::sleep(LOOK_MIN)),
        }
    }

    /// Ready when no request has begun, come or been answered between two checks.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let idle = self.heads.idle();
            if idle.is_some() && idle == self.seen {
                return Poll::Ready(());
            }
            self.seen = idle;
            self.pause = (self.pause * 2).min(LOOK_MAX);
            self.alarm.as_mut().reset(Instant::now() + self.pause);
        }
    }
}
