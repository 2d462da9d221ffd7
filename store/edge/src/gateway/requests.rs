//! The body of a call whose requests arrive one after another as JSON.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::Frame;
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::json::Values;
use super::request::{frame, late, text_bytes_max, too_large};
use super::room::TextShare;
use super::{BODY_TIMEOUT, JsonRequest};
use crate::Error;

/// A body with a frame for each JSON message of another body. It ends with that, and with a
/// message that is malformed, too large or late, or has no room. A client that only adds requests
/// as it reads the answers is waited for without a limit between its messages, as over gRPC.
pub(super) struct JsonRequests<Q> {
    /// The first message, which has been parsed before the call.
    first: Option<Bytes>,
    body: Option<BodyDataStream>,
    values: Values,
    /// The share of what is in `values`.
    share: TextShare,
    /// The timeout of the message that has begun.
    begun: Option<Pin<Box<Sleep>>>,
    message_bytes_max: usize,
    _message: PhantomData<fn() -> Q>,
}

impl<Q: JsonRequest> JsonRequests<Q> {
    /// Waits for the first message, or for the end of the body.
    ///
    /// # Errors
    /// The first message is malformed or too large, it has no room, or the body has failed before
    /// its end.
    pub(super) async fn begin(
        body: Body,
        message_bytes_max: usize,
        share: TextShare,
    ) -> Result<JsonRequests<Q>, Status> {
        let mut requests = JsonRequests {
            first: None,
            body: Some(body.into_data_stream()),
            values: Values::new(text_bytes_max(message_bytes_max)),
            share,
            begun: None,
            message_bytes_max,
            _message: PhantomData,
        };
        requests.first = std::future::poll_fn(|cx| requests.poll_message(cx)).await?;
        Ok(requests)
    }

    /// The frame of the next message; `None` at the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            let value = self.values.next();
            let text_bytes_max = text_bytes_max(self.message_bytes_max);
            if let Some(text) = value.map_err(|_| too_large("more", text_bytes_max))? {
                self.begun = None;
                return Poll::Ready(self.message(&text).map(Some));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(None));
            };
            let Poll::Ready(piece) = body.poll_next_unpin(cx) else {
                return self.poll_late(cx).map(Err);
            };
            match piece {
                Some(Ok(piece)) => {
                    self.values.push(&piece);
                    if !self.share.fit(self.values.bytes()) {
                        return Poll::Ready(Err(Error::TooManyRequests.into()));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Status::cancelled(error.to_string()))),
                None => {
                    self.body = None;
                    let rest = self.values.rest();
                    let last = rest.map(|text| self.message(&text));
                    return Poll::Ready(last.transpose());
                }
            }
        }
    }

    /// The frame of a message, which keeps its share of the room.
    fn message(&mut self, text: &[u8]) -> Result<Bytes, Status> {
        let frame = self.share.hold(frame::<Q>(text, self.message_bytes_max)?);
        match self.share.fit(self.values.bytes()) {
            true => Ok(frame),
            false => Err(Error::TooManyRequests.into()),
        }
    }
}

impl<Q> JsonRequests<Q> {
    /// Waits for the timeout of the message that has begun.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if !self.values.has_begun() {
            return Poll::Pending;
        }
        let begun = self
            .begun
            .get_or_insert_with(|| Box::pin(sleep(BODY_TIMEOUT)));
        begun.as_mut().poll(cx).map(|()| late())
    }
}

impl<Q: JsonRequest> hyper::body::Body for JsonRequests<Q> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let requests = self.get_mut();
        if let Some(first) = requests.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        Poll::Ready(match ready!(requests.poll_message(cx)) {
            Ok(message) => message.map(|frame| Ok(Frame::data(frame))),
            Err(status) => {
                tracing::debug!(%status, "the gateway ends a stream of requests");
                requests.body = None;
                requests.begun = None;
                requests.values = Values::new(0);
                requests.share.fit(0);
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::stream;
    use http_body_util::BodyExt;
    use keelson_proto::etcdserverpb::LeaseKeepAliveRequest;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::gateway::JsonRoom;

    /// The requests of a client that sends these pieces and no end.
    async fn requests(pieces: &[&'static str]) -> JsonRequests<LeaseKeepAliveRequest> {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, Infallible>(*piece))
            .collect();
        let body = Body::from_stream(stream::iter(pieces).chain(stream::pending()));
        let share = JsonRoom::within(1024).share();
        let begun = JsonRequests::begin(body, 1024, share);
        begun.await.expect("a message")
    }

    /// A client could begin a message in each of thousands of streams, and keep them open.
    #[tokio::test(start_paused = true)]
    async fn a_message_that_has_begun_has_to_end_in_time() {
        let mut begun = requests(&[r#"{"ID":"77"}{"I"#]).await;
        let began = Instant::now();
        assert!(begun.frame().await.is_some_and(|first| first.is_ok()));
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(timeout(day, begun.frame()).await.unwrap().is_none());
        assert_eq!(began.elapsed(), BODY_TIMEOUT);
        // Between messages there is no limit.
        let mut idle = requests(&["{\"ID\":\"77\"} \n", " "]).await;
        assert!(idle.frame().await.is_some());
        assert!(timeout(day, idle.frame()).await.is_err());
    }
}
