//! A deadline for the head of each HTTP/1.1 request, from its first byte on.
//!
//! hyper has one timeout for two waits: for the next request on an idle connection, which may be
//! long, and for the rest of a head that has begun, which may not - a client that sends a byte a
//! second holds a connection for ever. This watches the second: bytes that arrive while no request
//! is being answered begin a head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{self, Sleep};

use crate::filtered::ReadFilter;

/// Makes reads fail once a head has taken too long.
pub(crate) struct HeadClock {
    timeout: Duration,
    heads: Heads,
    running: Option<Running>,
}

/// The deadline of the head that began while `count` was so.
struct Running {
    count: u64,
    deadline: Pin<Box<Sleep>>,
}

/// What a connection has been through.
#[derive(Clone)]
pub(crate) struct Heads(Arc<Past>);

struct Past {
    /// Counts up when a head is complete and again when its answer is: odd is "busy".
    count: AtomicU64,
    /// A head has begun.
    begun: AtomicBool,
}

/// A request that is being answered.
pub(crate) struct Busy(Heads);

impl HeadClock {
    pub(crate) fn new(timeout: Duration) -> (HeadClock, Heads) {
        let heads = Heads(Arc::new(Past {
            count: AtomicU64::new(0),
            begun: AtomicBool::new(false),
        }));
        let clock = HeadClock {
            timeout,
            heads: heads.clone(),
            running: None,
        };
        (clock, heads)
    }

    fn bytes_arrived(&mut self) {
        let count = self.heads.count();
        let running = self.running.as_ref().map(|running| running.count);
        if count.is_multiple_of(2) && running != Some(count) {
            self.heads.0.begun.store(true, Ordering::Relaxed);
            let deadline = Box::pin(time::sleep(self.timeout));
            self.running = Some(Running { count, deadline });
        }
    }
}

impl Heads {
    fn count(&self) -> u64 {
        // Reads and requests of a connection happen in one task.
        self.0.count.load(Ordering::Relaxed)
    }

    /// `None` while a request is on its way or being answered; else a number that is another one
    /// after the next.
    pub(crate) fn idle(&self) -> Option<u64> {
        let count = self.count();
        let begun = self.0.begun.load(Ordering::Relaxed);
        (count.is_multiple_of(2) && !begun).then_some(count)
    }

    /// Whether a request is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        !self.count().is_multiple_of(2)
    }

    /// A head is complete.
    pub(crate) fn busy(&self) -> Busy {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.begun.store(false, Ordering::Relaxed);
        Busy(self.clone())
    }
}

impl Busy {
    /// Until the last of the body is sent.
    pub(crate) fn over<B>(self, body: B) -> BusyBody<B> {
        BusyBody { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl ReadFilter for HeadClock {
    fn passed(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.bytes_arrived();
        }
        Ok(())
    }

    /// Ready once the head that is being read has taken too long.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let count = self.heads.count();
        match &mut self.running {
            Some(running) if running.count == count => running.deadline.as_mut().poll(cx),
            _ => {
                self.running = None;
                Poll::Pending
            }
        }
    }

    fn arrived(&mut self) {
        self.bytes_arrived();
    }
}

/// The body of an answer; its end is the end of the request.
pub(crate) struct BusyBody<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body<Data = Bytes> + Unpin> Body for BusyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
