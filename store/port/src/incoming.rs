//! The body of a request, which does not hold up the end of the server.
//!
//! A request whose body never comes whole would be waited for until the drain's bound. Once the server
//! goes down, what has begun to come must go on coming: after a short silence the body fails.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{self, Instant, Sleep};

use crate::drain::{Begun, Drain};

/// How long the next piece may take while the server goes down.
const SILENCE_MAX: Duration = Duration::from_millis(200);

/// What fails a body.
type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
pub struct Incoming {
    body: hyper::body::Incoming,
    begun: Option<Begun>,
    /// The end of the silence; only while the server goes down.
    late: Option<Pin<Box<Sleep>>>,
    /// Until when all of it has to come.
    until: Option<Instant>,
    /// That moment; only while something is waited for.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// The rest of the body has not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late;

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rest of the body did not come in time")
    }
}

impl Error for Late {}

/// The server goes down, and the rest of the body has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished;

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server goes down before the rest of the body has come")
    }
}

impl Error for Unfinished {}

impl Incoming {
    /// A body that fails in the drain when it does not go on; without a drain it is hyper's own.
    pub(crate) fn new(body: hyper::body::Incoming, drain: Option<&Drain>) -> Incoming {
        // Most requests have none.
        let drain = drain.filter(|_| !body.is_end_stream());
        Incoming {
            begun: drain.map(|drain| drain.clone().begun()),
            body,
            late: None,
            until: None,
            alarm: None,
        }
    }

    /// A body that fails when it has not come whole after so long.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Incoming {
        self.until = (!self.body.is_end_stream()).then(|| Instant::now() + time);
        self
    }

    /// Ready when it should have come whole.
    fn poll_until(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(time::sleep_until(until)));
        alarm.as_mut().poll(cx)
    }

    /// Ready when the server goes down and nothing has come for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(begun) = &mut self.begun else {
            return Poll::Pending;
        };
        ready!(Pin::new(begun).poll(cx));
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(time::sleep(SILENCE_MAX)));
        late.as_mut().poll(cx)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.late = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        if self.poll_until(cx).is_ready() {
            return Poll::Ready(Some(Err(Late.into())));
        }
        ready!(self.poll_late(cx));
        Poll::Ready(Some(Err(Unfinished.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
