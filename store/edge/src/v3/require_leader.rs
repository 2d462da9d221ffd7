//! Streams that require a leader (`hasleader: true`) end when the member has had none for long.
//!
//! etcd v3.7.1 `api/v3rpc/interceptor.go`: three election timeouts, because to repeat a stream
//! costs more than a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use keelson_core::MemberId;
use tokio::sync::watch;
use tokio::time;
use tonic::Status;
use tonic::body::Body;

use super::trailers;
use crate::Error;
use crate::backend::Backend;

/// The election timeouts without a leader after which streams end.
const ELECTIONS: u32 = 3;

/// Notices that the leader was lost. The value counts them.
pub(super) struct LeaderLoss(watch::Sender<u64>);

impl Default for LeaderLoss {
    fn default() -> LeaderLoss {
        LeaderLoss(watch::Sender::new(0))
    }
}

impl LeaderLoss {
    /// Looks at the leader once in each election timeout, without an end.
    pub(super) async fn monitor<B: Backend>(&self, backend: &B) {
        let mut without = 0;
        loop {
            time::sleep(backend.election_timeout()).await;
            without = match backend.leader() == MemberId::NONE {
                true => without + 1,
                false => 0,
            };
            if ELECTIONS <= without {
                self.0.send_modify(|losses| *losses += 1);
                without = 0;
            }
        }
    }

    /// The answer of a stream, which ends at the next loss.
    pub(super) fn bound(&self, answer: Response<Body>) -> Response<Body> {
        let mut losses = self.0.subscribe();
        let lost = Box::pin(async move {
            if losses.changed().await.is_err() {
                // The port has ended, and its drain ends the stream.
                std::future::pending::<()>().await;
            }
        });
        answer.map(|body| {
            Body::new(LeaderBound {
                body: Some(body),
                lost,
            })
        })
    }
}

/// A body that ends with an error when the leader is lost.
struct LeaderBound {
    /// `None` after the error.
    body: Option<Body>,
    lost: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for LeaderBound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let LeaderBound { body, lost } = self.get_mut();
        let Some(inner) = body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(inner).poll_frame(cx);
        if frame.is_pending() && lost.as_mut().poll(cx).is_ready() {
            *body = None;
            let end = Frame::trailers(trailers(&Error::NoLeader.into()));
            return Poll::Ready(Some(Ok(end)));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
