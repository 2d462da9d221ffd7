//! The body of a request, which does not delay a graceful shutdown.
//!
//! The drain would wait until its bound for a request whose body never ends. Once the drain has
//! begun, a body fails after a short silence.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{self, Sleep};

use crate::drain::{Begun, Drain};

/// How long the next piece may take during the drain.
const SILENCE_MAX: Duration = Duration::from_millis(200);

/// The error of a body.
type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
pub struct Incoming {
    body: hyper::body::Incoming,
    /// Until the first wait for a piece.
    drain: Option<Drain>,
    /// How long all of it may take from then on; until then.
    time_max: Option<Duration>,
    /// Allocated at the first wait: most bodies have arrived when they are read.
    waits: Option<Box<BodyBounds>>,
}

/// The bounds of a body that has not arrived.
struct BodyBounds {
    /// Ready once the drain has begun.
    begun: Option<Begun>,
    /// The end of the silence; only during the drain.
    late: Option<Pin<Box<Sleep>>>,
    /// The deadline of the whole body.
    until: Option<Pin<Box<Sleep>>>,
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
        let drain = drain.filter(|_| !body.is_end_stream()).cloned();
        Incoming {
            body,
            drain,
            time_max: None,
            waits: None,
        }
    }

    /// A body that fails when it has not come whole so long after the first wait for a piece.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Incoming {
        self.time_max = (!self.body.is_end_stream()).then_some(time);
        self
    }

    /// Ready when the body has missed its deadline.
    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let (drain, time_max) = (self.drain.take(), self.time_max.take());
        if drain.is_some() || time_max.is_some() {
            self.waits = Some(Box::new(BodyBounds {
                begun: drain.map(Drain::begun),
                late: None,
                until: time_max.map(|time| Box::pin(time::sleep(time))),
            }));
        }
        match &mut self.waits {
            Some(waits) => waits.poll_failed(cx),
            None => Poll::Pending,
        }
    }
}

impl BodyBounds {
    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let until = self.until.as_mut();
        if until.is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Late.into());
        }
        ready!(self.poll_late(cx));
        Poll::Ready(Unfinished.into())
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
            if let Some(waits) = &mut self.waits {
                waits.late = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let failure = ready!(self.poll_failed(cx));
        Poll::Ready(Some(Err(failure)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
