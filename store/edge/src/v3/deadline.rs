//! Ends a call at its client's deadline, as grpc-go does: `grpc-timeout`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
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

/// The end of a client's patience, from now on.
pub(super) fn until(patience: Duration) -> Instant {
    let now = Instant::now();
    // Eight digits of hours may exceed the range of the clock.
    now.checked_add(patience).unwrap_or(now + DAY)
}

/// A call with a deadline.
pub struct Timed<C> {
    call: C,
    until: Instant,
    /// The timer; created only if the call has to be waited for.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<C: Future + Unpin> Timed<C> {
    pub(super) fn new(call: C, patience: Duration) -> Timed<C> {
        Timed {
            call,
            until: until(patience),
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

/// The timeout of a call; `None` without `grpc-timeout`, or with a malformed one.
pub(super) fn patience(headers: &HeaderMap) -> Option<Duration> {
    grpc_timeout(headers.get(&GRPC_TIMEOUT)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_when_its_client_waits_no_longer() {
        let began = Instant::now();
        let never = std::future::pending::<()>();
        let ended = Timed::new(never, Duration::from_secs(5)).await;
        let status = ended.expect_err("it is never answered");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(status.message(), "context deadline exceeded");
        assert_eq!(began.elapsed().as_secs(), 5);
        let answered = Timed::new(std::future::ready(7), Duration::ZERO).await;
        assert_eq!(answered.expect("it is answered"), 7);
    }
}
