//! The body of a call whose requests arrive one after another as JSON.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::Frame;
use tonic::Status;

use super::JsonRequest;
use super::json::Values;
use super::request::{frame, text_bytes_max, too_large};

/// A body with a frame for each JSON message of another body. It ends with that, and with a message
/// that is malformed or too large. A client that only adds requests as it reads the answers is
/// waited for without a limit, as over gRPC.
pub(super) struct JsonRequests<Q> {
    /// The first message, which has been parsed before the call.
    first: Option<Bytes>,
    body: Option<BodyDataStream>,
    values: Values,
    message_bytes_max: usize,
    _message: PhantomData<fn() -> Q>,
}

impl<Q: JsonRequest> JsonRequests<Q> {
    /// Waits for the first message, or for the end of the body.
    ///
    /// # Errors
    /// The first message is malformed or too large, or the body has failed before its end.
    pub(super) async fn begin(
        body: Body,
        message_bytes_max: usize,
    ) -> Result<JsonRequests<Q>, Status> {
        let mut requests = JsonRequests {
            first: None,
            body: Some(body.into_data_stream()),
            values: Values::new(text_bytes_max(message_bytes_max)),
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
                return Poll::Ready(frame::<Q>(&text, self.message_bytes_max).map(Some));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(None));
            };
            match ready!(body.poll_next_unpin(cx)) {
                Some(Ok(piece)) => self.values.push(&piece),
                Some(Err(error)) => return Poll::Ready(Err(Status::cancelled(error.to_string()))),
                None => {
                    self.body = None;
                    let rest = self.values.rest();
                    let last = rest.map(|text| frame::<Q>(&text, self.message_bytes_max));
                    return Poll::Ready(last.transpose());
                }
            }
        }
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
                requests.values = Values::new(0);
                None
            }
        })
    }
}
