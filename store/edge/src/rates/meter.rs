//! Holds the messages of a client's stream back that are over its limit.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Frame;
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::Rates;
use super::limiter::RequestOrigin;

/// Charges the messages of a stream. One piece of its body waits at a time, and no further one is
/// read meanwhile: HTTP/2's window holds the client back.
pub(crate) struct Meter {
    rates: Rates,
    of: RequestOrigin,
    /// The call was charged, which includes its first message.
    paid: u64,
    held: Option<(Frame<Bytes>, Pin<Box<Sleep>>)>,
}

impl Meter {
    pub(super) fn new(rates: Rates, of: RequestOrigin) -> Meter {
        Meter {
            rates,
            of,
            paid: 1,
            held: None,
        }
    }

    /// Whether a piece waits.
    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// The piece that waits, at its time. `None` if there is none.
    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some((_, wait)) = &mut self.held {
            std::task::ready!(wait.poll_unpin(cx));
        }
        Poll::Ready(self.held.take().map(|(frame, _)| frame))
    }

    /// Charges the messages that begin in a piece. It is returned, or waits.
    ///
    /// # Errors
    /// The wait would be too long: the stream ends.
    pub(crate) fn charge(
        &mut self,
        frame: Frame<Bytes>,
        messages: u64,
    ) -> Result<Option<Frame<Bytes>>, Status> {
        let paid = self.paid.min(messages);
        self.paid -= paid;
        if messages == paid {
            return Ok(Some(frame));
        }
        let charged = self.rates.charge_messages(&self.of, messages - paid);
        let wait = charged.map_err(|over| over.stream_status())?;
        if wait.is_zero() {
            return Ok(Some(frame));
        }
        self.held = Some((frame, Box::pin(sleep(wait))));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::Instant;

    use super::super::{RateLimit, RateLimits};
    use super::*;
    use crate::calls::CallMetrics;
    use crate::turns::Account;

    /// Pieces with so many empty messages each, at a user's rate of two a second.
    fn body(
        pieces: &[usize],
    ) -> impl hyper::body::Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin {
        let calls = CallMetrics::default();
        let limits = RateLimits {
            connection: None,
            user: RateLimit::new(2, 0),
        };
        let rates = Rates::new(limits, calls.clone());
        let meter = rates.meter(|| Account::User("a".to_owned()));
        let piece = |messages: &usize| Frame::data(Bytes::from(vec![0; 5 * messages]));
        let pieces: Vec<_> = pieces.iter().map(piece).map(Ok::<_, Infallible>).collect();
        calls.count_requests(None, StreamBody::new(stream::iter(pieces)), meter)
    }

    #[tokio::test(start_paused = true)]
    async fn messages_over_the_limit_come_at_its_rate() {
        let mut body = body(&[1, 2, 1, 3]);
        let began = Instant::now();
        let mut times = Vec::new();
        while let Some(piece) = body.frame().await {
            assert!(piece.is_ok());
            times.push(began.elapsed().as_millis() / 100);
        }
        // The first is paid, and two are there at once.
        assert_eq!(times, [0, 0, 5, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_would_wait_for_long_ends() {
        let mut body = body(&[3, 11, 1]);
        assert!(body.frame().await.expect("a piece").is_ok());
        let Some(Err(error)) = body.frame().await else {
            panic!("11 messages take 5.5 s");
        };
        let error = error.into().downcast::<Status>().expect("a status");
        assert_eq!(error.code(), tonic::Code::Unavailable);
    }

    #[tokio::test]
    async fn without_limits_nothing_is_metered() {
        let account = || Account::User("a".to_owned());
        assert!(Rates::default().meter(account).is_none());
    }
}
