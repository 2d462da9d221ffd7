//! Ends a call at its client's deadline, as grpc-go does: `grpc-timeout`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderName, Request};
use keelson_port::grpc_timeout;
use tokio::time::{self, Instant, Sleep};
use tonic::Status;

/// The timeout from a call's fields to the end of its only message, as for a body over HTTP/1.1.
pub(super) const MESSAGE_TIME_MAX: Duration = Duration::from_secs(60);

/// Parsed once, since every request is checked for it.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The error of a call at its deadline: Go's `context.DeadlineExceeded`.
pub(super) fn exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// When a call arrived that was held before it was begun; an extension of its request.
#[derive(Clone, Copy, Debug)]
struct Arrived(Instant);

/// Notes that a call arrives now: what it waits before it is begun counts.
pub(crate) fn arrives<T>(request: &mut Request<T>) {
    request.extensions_mut().insert(Arrived(Instant::now()));
}

/// The deadline of a call; `None` without `grpc-timeout`, or with a malformed one.
pub(crate) fn of<T>(request: &Request<T>) -> Option<Instant> {
    let patience = grpc_timeout(request.headers().get(&GRPC_TIMEOUT)?.as_bytes())?;
    let arrived = request.extensions().get::<Arrived>();
    let from = arrived.map_or_else(Instant::now, |arrived| arrived.0);
    // Eight digits of hours may exceed the range of the clock.
    Some(from.checked_add(patience).unwrap_or(from + DAY))
}

/// Whether a deadline has passed before its call is begun.
pub(super) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// Waits for the outcome until the deadline.
pub(crate) async fn before<T>(
    deadline: Option<Instant>,
    outcome: impl Future<Output = T>,
) -> Result<T, Status> {
    match deadline {
        Some(deadline) => {
            let outcome = time::timeout_at(deadline, outcome).await;
            outcome.map_err(|_| exceeded())
        }
        None => Ok(outcome.await),
    }
}

/// A call with a deadline.
pub struct Timed<C> {
    call: C,
    until: Instant,
    /// The timer; created only if the call has to be waited for.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<C: Future + Unpin> Timed<C> {
    pub(super) fn new(call: C, until: Instant) -> Timed<C> {
        Timed {
            call,
            until,
            alarm: None,
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl<C: Future + Unpin> Future for Timed<C> {
    type Output = Result<C::Output, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = Pin::new(&mut self.call).poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        let until = self.until;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(time::sleep_until(until)));
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Err(exceeded()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_when_its_client_waits_no_longer() {
        let began = Instant::now();
        let never = std::future::pending::<()>();
        let ended = Timed::new(never, began + Duration::from_secs(5)).await;
        let status = ended.expect_err("it is never answered");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(status.message(), "context deadline exceeded");
        assert_eq!(began.elapsed().as_secs(), 5);
        let answered = Timed::new(std::future::ready(7), began).await;
        assert_eq!(answered.expect("it is answered"), 7);
    }

    /// It counted from when the member was ready.
    #[tokio::test(start_paused = true)]
    async fn the_time_before_a_call_is_begun_counts() {
        let mut request = Request::new(());
        let timeout = http::HeaderValue::from_static("5S");
        request.headers_mut().insert(GRPC_TIMEOUT.clone(), timeout);
        let began = Instant::now();
        arrives(&mut request);
        time::sleep(Duration::from_secs(3)).await;
        assert_eq!(of(&request), Some(began + Duration::from_secs(5)));
        assert!(!has_passed(of(&request)) && !has_passed(None));
        let never = before(of(&request), std::future::pending::<()>()).await;
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!(never.unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert!(has_passed(of(&request)));
    }
}
