//! The body of a gRPC call on its way to a member.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A message up to here is read before it is sent, so that it can be sent to another member.
const SMALL_BYTES_MAX: usize = 64 * 1024;

/// What has been read, and what is still to come.
pub(crate) struct CallBody {
    first: Option<Bytes>,
    rest: Option<Incoming>,
}

impl CallBody {
    /// As it comes.
    pub(crate) fn stream(body: Incoming) -> CallBody {
        CallBody {
            first: None,
            rest: Some(body),
        }
    }

    /// Read to its end, when that is near.
    pub(crate) async fn unary(mut body: Incoming) -> hyper::Result<CallBody> {
        let mut first = BytesMut::new();
        while first.len() < SMALL_BYTES_MAX {
            let Some(frame) = body.frame().await else {
                let first = Some(first.freeze());
                return Ok(CallBody { first, rest: None });
            };
            if let Ok(data) = frame?.into_data() {
                match first.is_empty() {
                    // Most messages are one frame, which is not copied.
                    true => first = BytesMut::from(data),
                    false => first.extend_from_slice(&data),
                }
            }
        }
        Ok(CallBody {
            first: Some(first.freeze()),
            rest: Some(body),
        })
    }

    /// The same once more, when all of it is here.
    pub(crate) fn again(&self) -> Option<CallBody> {
        match (&self.first, &self.rest) {
            (Some(first), None) => Some(CallBody {
                first: Some(first.clone()),
                rest: None,
            }),
            _ => None,
        }
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        self.first.as_ref().is_none_or(Bytes::is_empty) && rest.is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.rest) {
            (first, None) => {
                SizeHint::with_exact(first.as_ref().map_or(0, |first| first.len() as u64))
            }
            _ => SizeHint::default(),
        }
    }
}
