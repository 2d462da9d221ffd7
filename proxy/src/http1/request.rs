//! A request as members receive it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::Body;
use keelson_port::Incoming;
use tokio::time;

use super::request_head::{Origin, RequestHead};
use crate::answers::Refusal;
use crate::policy::subject::{self, Subject};

/// Bodies up to this size are read before they are sent, so that they can be sent to another member
/// when the first does not take them.
pub(crate) const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// From the end of a request's head to the end of its small body. A larger body ends by the
/// member's limit.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A request, complete but for a body that is too large to be kept.
pub(crate) struct UpstreamRequest {
    pub(crate) method: Method,
    pub(crate) subject: Subject,
    /// It changes nothing, and may be sent any number of times.
    pub(crate) read: bool,
    /// It is the JSON gateway's.
    pub(crate) gateway: bool,
    /// The head, and a small body behind it.
    pub(crate) bytes: Bytes,
    /// A body that is sent as it comes.
    pub(crate) streamed: Option<StreamedBody>,
}

/// A body that is sent as it comes.
pub(crate) struct StreamedBody {
    pub(crate) body: Incoming,
    /// Its length is unknown before its end.
    pub(crate) chunked: bool,
}

/// A client that did not send the whole body.
#[derive(Debug)]
pub(crate) enum Incomplete {
    /// It closed the connection.
    Closed,
    /// It took longer than `BODY_TIME_MAX`.
    Late,
}

impl From<Incomplete> for Refusal {
    fn from(incomplete: Incomplete) -> Refusal {
        match incomplete {
            Incomplete::Closed => Refusal::Client,
            Incomplete::Late => Refusal::Late,
        }
    }
}

/// A request whose small body is still to be read.
pub(crate) struct Draft {
    request: UpstreamRequest,
    bytes: BytesMut,
    small: Option<Incoming>,
}

impl Draft {
    pub(crate) fn new(parts: &Parts, body: Incoming, origin: Origin<'_>) -> Draft {
        let length = body.size_hint().exact();
        let bytes = head_of(parts, length, origin).finish(b"");
        let is_small = length.is_some_and(|length| length <= SMALL_BYTES_MAX);
        let chunked = length.is_none();
        let (small, streamed) = match is_small {
            true => (Some(body).filter(|body| !body.is_end_stream()), None),
            false => (None, Some(StreamedBody { body, chunked })),
        };
        let mut request = UpstreamRequest::of(parts, Bytes::new());
        request.streamed = streamed;
        Draft {
            request,
            bytes,
            small,
        }
    }

    /// Reads a small body to its end.
    pub(crate) async fn complete(mut self) -> Result<UpstreamRequest, Incomplete> {
        if let Some(body) = &mut self.small {
            read_into(&mut self.bytes, body).await?;
        }
        self.request.bytes = self.bytes.freeze();
        Ok(self.request)
    }
}

impl UpstreamRequest {
    fn of(parts: &Parts, bytes: Bytes) -> UpstreamRequest {
        let path = parts.uri.path();
        UpstreamRequest {
            method: parts.method.clone(),
            subject: Subject::of(path),
            read: subject::reads(&parts.method, path),
            gateway: subject::is_gateway(path),
            bytes,
            streamed: None,
        }
    }

    /// A request whose body has been read.
    pub(crate) fn whole(parts: &Parts, body: &[u8], origin: Origin<'_>) -> UpstreamRequest {
        let head = head_of(parts, Some(body.len() as u64), origin);
        UpstreamRequest::of(parts, head.finish(body).freeze())
    }

    /// A watch, which may take as long as its event: a GET of the v2 keys API without the time
    /// limit of the others.
    pub(crate) fn watch(target: &str, fields: &[u8]) -> UpstreamRequest {
        UpstreamRequest {
            method: Method::GET,
            subject: Subject::Other,
            read: true,
            gateway: false,
            bytes: RequestHead::exact(&Method::GET, target, fields),
            streamed: None,
        }
    }

    /// Whether all bytes of the request are kept, so that it can be sent once more.
    pub(crate) fn is_kept(&self) -> bool {
        self.streamed.is_none()
    }
}

fn head_of(parts: &Parts, length: Option<u64>, origin: Origin<'_>) -> RequestHead {
    let mut head = RequestHead::of(parts, origin);
    head.frame(&parts.method, length);
    head
}

/// Reads a small body to its end, within bounds.
async fn read_into<B>(bytes: &mut BytesMut, body: &mut B) -> Result<(), Incomplete>
where
    B: Body<Data = Bytes> + Unpin,
{
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Incomplete::Closed)?;
            bytes.put(frame.into_data().unwrap_or_default());
        }
        Ok(())
    };
    // Boxed: otherwise it would enlarge the future of every request.
    let read = Box::pin(time::timeout(BODY_TIME_MAX, read)).await;
    read.unwrap_or(Err(Incomplete::Late))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    #[test]
    fn a_watch_is_a_get_with_the_clients_fields() {
        let request = UpstreamRequest::watch("/v2/keys/a?wait=true", b"host: a\r\n");
        let expected = "GET /v2/keys/a?wait=true HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(std::str::from_utf8(&request.bytes).unwrap(), expected);
    }

    /// A body of which nothing more comes.
    struct Stuck;

    impl Body for Stuck {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_body_that_does_not_end_is_not_waited_for_for_ever() {
        let began = time::Instant::now();
        let read = read_into(&mut BytesMut::new(), &mut Stuck).await;
        assert!(matches!(read, Err(Incomplete::Late)));
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}
