//! Idle connections without HTTP's machinery.
//!
//! Clients keep connections for hours between two requests, and hyper keeps some 12 KiB for each. A
//! connection that has been idle for a moment is taken out of it and is then a socket that waits to
//! become readable; its next request brings the machinery back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{self, Instant, Sleep};

use crate::head_clock::Heads;

/// Between the first two looks. Short: a thousand clients that come at once and ask once must not
/// all have their buffers at the same time.
const LOOK_MIN: Duration = Duration::from_millis(20);

/// Between two looks at a connection that was at work at every one of them.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Tells when a connection has been idle. Looks once in a while: a busy connection costs nothing.
pub(crate) struct Rest {
    heads: Heads,
    /// What it saw at its last look.
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

    /// Ready when no request has come, begun or been answered between two looks.
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
