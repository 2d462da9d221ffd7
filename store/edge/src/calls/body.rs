//! The bodies of calls, which count their messages.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

use super::{CallCount, CallMetrics};
use crate::rates::Meter;

/// The head of a gRPC message: a flag, and the length in four bytes.
const HEAD_BYTES: usize = 5;

/// Finds the messages in the pieces of a body. A piece may have parts of several ones.
#[derive(Default)]
struct MessageCounter {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// What is left of the message, in bytes.
    left: usize,
}

impl MessageCounter {
    /// The number of messages that begin in the piece, and the bytes of theirs without their heads.
    fn take(&mut self, mut piece: &[u8]) -> (u64, u64) {
        let (mut messages, mut bytes) = (0, 0);
        while !piece.is_empty() {
            if self.left != 0 {
                let step = self.left.min(piece.len());
                self.left -= step;
                piece = &piece[step..];
                continue;
            }
            let step = (HEAD_BYTES - self.head_bytes).min(piece.len());
            self.head[self.head_bytes..self.head_bytes + step].copy_from_slice(&piece[..step]);
            self.head_bytes += step;
            piece = &piece[step..];
            if self.head_bytes == HEAD_BYTES {
                let [_, a, b, c, d] = self.head;
                let length = u32::from_be_bytes([a, b, c, d]);
                self.left = length as usize;
                self.head_bytes = 0;
                messages += 1;
                bytes += u64::from(length);
            }
        }
        (messages, bytes)
    }
}

/// The body of an answer.
#[derive(Default)]
pub struct CallBody {
    body: Body,
    count: Option<CallCount>,
    messages: MessageCounter,
}

impl CallBody {
    /// The answer to a call. An answer without messages has its status in its headers.
    pub(crate) fn of(response: Response<Body>, mut count: Option<CallCount>) -> Response<CallBody> {
        let headers = response.headers();
        if headers.contains_key(Status::GRPC_STATUS)
            && let Some(mut count) = count.take()
        {
            count.end(headers);
        }
        response.map(|body| CallBody {
            body,
            count,
            messages: MessageCounter::default(),
        })
    }
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let CallBody {
            body,
            count,
            messages,
        } = self.get_mut();
        let frame = ready!(Pin::new(body).poll_frame(cx));
        let (Some(Ok(piece)), Some(counted)) = (&frame, count.as_mut()) else {
            return Poll::Ready(frame);
        };
        if let Some(data) = piece.data_ref() {
            let (messages, bytes) = messages.take(data);
            counted.sent(messages, bytes);
        }
        if let Some(trailers) = piece.trailers_ref() {
            counted.end(trailers);
            *count = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a call's request.
pub(crate) struct CountedRequest<R> {
    body: R,
    to: Option<(CallMetrics, usize)>,
    messages: MessageCounter,
    /// Charges the messages of a stream, and holds them back.
    meter: Option<Box<Meter>>,
}

impl<R> CountedRequest<R> {
    pub(super) fn new(
        body: R,
        to: Option<(CallMetrics, usize)>,
        meter: Option<Box<Meter>>,
    ) -> CountedRequest<R> {
        CountedRequest {
            body,
            to,
            messages: MessageCounter::default(),
            meter,
        }
    }

    /// Counts the messages of a piece. `None`: it waits.
    fn take(&mut self, piece: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Status> {
        let Some(data) = piece.data_ref() else {
            return Ok(Some(piece));
        };
        let (messages, bytes) = self.messages.take(data);
        if let Some((calls, method)) = &self.to {
            calls.received(*method, messages, bytes);
        }
        match &mut self.meter {
            Some(meter) => meter.charge(piece, messages),
            None => Ok(Some(piece)),
        }
    }
}

impl<R> HttpBody for CountedRequest<R>
where
    R: HttpBody<Data = Bytes, Error: Into<StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let counted = self.get_mut();
        loop {
            if let Some(meter) = &mut counted.meter
                && let Some(piece) = ready!(meter.poll_held(cx))
            {
                return Poll::Ready(Some(Ok(piece)));
            }
            let piece = match ready!(Pin::new(&mut counted.body).poll_frame(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            };
            match counted.take(piece) {
                Ok(None) => {}
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Err(over) => return Poll::Ready(Some(Err(over.into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_holding = self.meter.as_ref().is_some_and(|meter| meter.is_holding());
        !is_holding && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of 0, 3 and 300 bytes, in pieces of every length.
    #[test]
    fn messages_are_found_in_any_pieces() {
        let mut body = vec![0, 0, 0, 0, 0];
        body.extend_from_slice(&[0, 0, 0, 0, 3, 7, 7, 7]);
        body.extend_from_slice(&[0, 0, 0, 1, 44]);
        body.resize(body.len() + 300, 1);
        for length in 1..=body.len() {
            let mut counter = MessageCounter::default();
            let mut found = (0, 0);
            for piece in body.chunks(length) {
                let (messages, bytes) = counter.take(piece);
                found = (found.0 + messages, found.1 + bytes);
            }
            assert_eq!(found, (3, 303), "pieces of {length}");
        }
    }
}
