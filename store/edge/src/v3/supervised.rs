//! What is added to calls from outside: the end of streams at their deadline or, if they require
//! one, without a leader, the log line of a slow answer, the counts for `/metrics`, and the span.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Frame, SizeHint};
use keelson_core::MemberId;
use keelson_port::{Terminates, Termination, WakerSet};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use super::deadline::{self, exceeded};
use super::requires_leader;
use super::slow::{SlowCall, SlowLog};
use super::watch::trailers;
use crate::Error;
use crate::backend::Backend;
use crate::calls::{CallBody, CallCount, CallMetrics, Method};
use crate::traces::Tracer;
use crate::turns::Turn;

/// After so many election timeouts without a leader streams end: etcd's `maxNoLeaderCnt`. A new
/// stream is refused at once, but one that exists costs more to begin again.
const LEADERLESS_MAX: u32 = 3;

/// Whether this member has had no leader for long. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaderMonitor(Arc<LeaderState>);

#[derive(Debug, Default)]
struct LeaderState {
    lost: AtomicBool,
    wakers: WakerSet,
}

impl Terminates for LeaderState {
    fn wakers(&self) -> &WakerSet {
        &self.wakers
    }

    fn is_terminated(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

impl LeaderMonitor {
    /// Checks in every election timeout. Never returns.
    pub(crate) async fn run<B: Backend>(self, backend: B) -> Infallible {
        let mut leaderless = 0;
        loop {
            tokio::time::sleep(backend.election_timeout()).await;
            leaderless = match backend.leader() {
                MemberId::NONE => (leaderless + 1).min(LEADERLESS_MAX),
                _ => 0,
            };
            let lost = leaderless == LEADERLESS_MAX;
            self.0.lost.store(lost, Ordering::Release);
            if lost {
                self.0.wakers.wake_all();
            }
        }
    }

    /// Ends a stream that begins now. `leads`: there is a leader, which the last check may not have
    /// found.
    fn lost(&self, leads: bool) -> LeaderLost {
        if leads {
            self.0.lost.store(false, Ordering::Release);
        }
        Termination::of(Arc::clone(&self.0))
    }
}

/// Ready when the leader has been lost for long.
type LeaderLost = Termination<Arc<LeaderState>>;

/// What is added to one call.
pub(super) struct Supervision {
    /// `None` for a path that is not etcd's.
    method: Option<Method>,
    slow: Option<SlowCall>,
    /// The call's place among those in work.
    turn: Option<Turn>,
    leader: Option<Box<LeaderLost>>,
    /// The deadline of a stream, also while it is not begun. That of another call is where it is
    /// begun.
    deadline: Option<Pin<Box<Sleep>>>,
    count: Option<CallCount>,
}

impl Supervision {
    pub(super) fn of<T, B: Backend>(
        request: &Request<T>,
        backend: &B,
        slow: &SlowLog,
        leader: &LeaderMonitor,
        calls: &CallMetrics,
    ) -> Supervision {
        let path = request.uri().path();
        let method = Method::at(path);
        let is_stream = method.is_some_and(Method::is_stream);
        let led = is_stream && requires_leader(request);
        let deadline = is_stream.then(|| deadline::of(request)).flatten();
        Supervision {
            method,
            slow: slow.begin(path),
            turn: None,
            leader: led.then(|| Box::new(leader.lost(backend.leader() != MemberId::NONE))),
            deadline: deadline.map(|at| Box::pin(sleep_until(at))),
            count: method.map(|method| calls.begin_of(method, request.headers())),
        }
    }
}

impl Supervision {
    /// Begins the call's span, if it is sampled. Its request carries it to what is inside the call.
    pub(super) fn trace<T>(&mut self, tracer: &Tracer, request: &mut Request<T>) {
        let (Some(method), Some(count)) = (self.method, &mut self.count) else {
            return;
        };
        if let Some(span) = tracer.begin(method.names(), request.headers()) {
            request.extensions_mut().insert(span.call());
            count.traced(span);
        }
    }

    /// The call's method.
    pub(super) fn method(&self) -> Option<Method> {
        self.method
    }

    /// Keeps the call's place until its answer begins.
    pub(super) fn holds(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }
}

/// A call with its supervision.
pub struct Supervised<C> {
    call: C,
    supervision: Supervision,
}

impl<C> Supervised<C> {
    pub(super) fn new(call: C, supervision: Supervision) -> Supervised<C> {
        Supervised { call, supervision }
    }
}

impl<C> Future for Supervised<C>
where
    C: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<CallBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Supervised { call, supervision } = self.get_mut();
        // An answer that is ready is not lost.
        let Poll::Ready(answered) = Pin::new(call).poll(cx) else {
            return supervision.poll_end(cx).map(|end| {
                let count = supervision.count.take();
                Ok(CallBody::of(end.into_http(), count))
            });
        };
        if let Some(slow) = &mut supervision.slow {
            slow.end();
        }
        supervision.turn = None;
        let (leader, deadline) = (supervision.leader.take(), supervision.deadline.take());
        let answered = answered.map(|response| match (&leader, &deadline) {
            (None, None) => response,
            _ => response.map(|body| {
                let supervision = Supervision {
                    method: None,
                    slow: None,
                    turn: None,
                    leader,
                    deadline,
                    count: None,
                };
                Body::new(SupervisedBody { body, supervision })
            }),
        });
        let count = supervision.count.take();
        Poll::Ready(answered.map(|response| CallBody::of(response, count)))
    }
}

/// The body of a stream that requires a leader, or has a deadline.
struct SupervisedBody {
    body: Body,
    supervision: Supervision,
}

impl Supervision {
    /// Why the stream ends before its own end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(exceeded());
        }
        match &mut self.leader {
            Some(lost) => Pin::new(&mut **lost)
                .poll(cx)
                .map(|()| Error::NoLeader.into()),
            None => Poll::Pending,
        }
    }
}

impl hyper::body::Body for SupervisedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let supervised = self.get_mut();
        // What is ready is not lost. A stream that always has more ends at its deadline, too.
        let is_late = supervised
            .supervision
            .deadline
            .as_ref()
            .is_some_and(|deadline| deadline.deadline() <= Instant::now());
        if !is_late && let Poll::Ready(frame) = Pin::new(&mut supervised.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        supervised.supervision.poll_end(cx).map(|status| {
            // The stream's own body, and what it holds, ends now.
            supervised.body = Body::empty();
            Some(Ok(Frame::trailers(trailers(&status))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::tests::fake::Fake;

    /// It waited for its caller's token without an end.
    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_not_begun_by_its_deadline_ends() {
        let mut request = Request::new(());
        *request.uri_mut() = http::Uri::from_static("/etcdserverpb.Watch/Watch");
        let timeout = HeaderValue::from_static("5S");
        request.headers_mut().insert("grpc-timeout", timeout);
        let fake = Fake::new(([127, 0, 0, 1], 2379).into());
        let slow = SlowLog::new(Duration::from_secs(1));
        let supervision = Supervision::of(
            &request,
            &fake,
            &slow,
            &LeaderMonitor::default(),
            &CallMetrics::default(),
        );
        let began = Instant::now();
        let answer = Supervised::new(std::future::pending(), supervision).await;
        let Ok(answer) = answer;
        assert_eq!(answer.headers()[Status::GRPC_STATUS], "4");
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
