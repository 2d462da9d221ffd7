//! `etcdserverpb.Watch`: one body that reads a client's requests and sends what the member's stream
//! of watchers has for it.
//!
//! The messages are encoded here, many in one frame, and not by tonic: small events cost a copy,
//! large values none. The body is polled only while HTTP/2 has room, so a client that does not read
//! costs what the member's stream holds, and nothing else.

mod history;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use hyper::body::Frame;
use keelson_core::state::Error as StateError;
use keelson_core::watch::{FrameBuffer, HeaderFields, WatchStream, denial};
use keelson_port::Drain;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;
use tonic::codec::BufferSettings;
use tonic::{Status, Streaming};
use tonic_prost::ProstDecoder;

use self::history::HistoryShare;
use super::{RequestBody, Unread, in_go};
use crate::Error;
use crate::backend::Backend;
use crate::traces::{CallSpan, ChildSpan};

/// The size from which encoded messages are sent before further ones are encoded, in bytes.
const BATCH_BYTES: usize = 32 << 10;

/// The shortest interval of periodic progress, as in etcd.
const PROGRESS_MIN: Duration = Duration::from_millis(100);

/// Answers a call of `/etcdserverpb.Watch/Watch`.
pub(super) fn call<B: Backend, R: RequestBody>(
    backend: B,
    caller: Result<B, Error>,
    unread: Unread,
    drain: Drain,
    request: Request<R>,
    message_bytes_max: usize,
) -> Response<Body> {
    let call = request.extensions().get::<CallSpan>().cloned();
    let requests = Streaming::new_request(
        ProstDecoder::new(BufferSettings::default()),
        request.into_body(),
        None,
        Some(message_bytes_max),
    );
    let waker = Arc::new(AtomicWaker::new());
    let woken = Arc::clone(&waker);
    let body = WatchBody {
        header: HeaderFields::new(backend.header()),
        requests: Some(Box::pin(requests)),
        watchers: Watchers::new(
            caller.as_ref().unwrap_or(&backend),
            message_bytes_max,
            move || woken.wake(),
        ),
        history: HistoryShare::new(unread),
        waker,
        buffer: FrameBuffer::default(),
        frames: VecDeque::new(),
        drained: Box::pin(async move { drain.begun().await }),
        end: None,
        refused: caller.err(),
        call,
        backend,
    };
    let mut response = Response::new(Body::new(body));
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The watchers of a call, and the timer of their progress messages.
pub struct Watchers {
    /// The watchers.
    pub stream: WatchStream,
    progress: Progress,
}

impl Watchers {
    /// No watchers yet. `wake` is called when there may be a message.
    pub fn new<B: Backend>(
        backend: &B,
        message_bytes_max: usize,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Watchers {
        let mut stream = backend.watch(wake);
        stream.set_fragment_bytes(message_bytes_max);
        Watchers {
            stream,
            progress: Progress::new(backend.watch_progress_interval()),
        }
    }

    /// Creates a watcher, and begins the timer if it has requested periodic progress.
    pub fn create(&mut self, request: WatchCreateRequest) {
        if request.progress_notify {
            self.progress.start();
        }
        self.stream.create(request);
    }

    /// Takes a client's request.
    pub(crate) fn take(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.stream.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.stream.request_progress(),
            // As in etcd, a request of a kind that this release does not have is ignored.
            None => {}
        }
    }

    /// Sends periodic progress if its time has come. The stream may have a message then.
    pub fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.progress.is_due(cx) {
            return Poll::Pending;
        }
        self.stream.notify_progress();
        Poll::Ready(())
    }
}

/// The timer for watchers that have requested periodic progress.
struct Progress {
    interval: Duration,
    /// The first time; `None` without a watcher of periodic progress.
    first: Option<Instant>,
    /// From the first poll on: it needs a runtime, and an embedder may create watchers without one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    fn new(interval: Duration) -> Progress {
        Progress {
            interval: interval.max(PROGRESS_MIN),
            first: None,
            timer: None,
        }
    }

    fn start(&mut self) {
        // Streams that begin together do not all send at once: up to a tenth later, as in etcd.
        let drawn = RandomState::new().build_hasher().finish();
        let tenths = self.interval.mul_f64((drawn % 100) as f64 / 1_000.0);
        let at = Instant::now() + self.interval + tenths;
        self.first.get_or_insert(at);
    }

    /// Whether the interval has passed since it was last true.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(first) = self.first else {
            return false;
        };
        let begin = || Box::pin(sleep_until(first));
        let timer = self.timer.get_or_insert_with(begin);
        let due = timer.as_mut().poll(cx).is_ready();
        if due {
            timer.as_mut().reset(Instant::now() + self.interval);
            // The new time is registered by the next poll.
            cx.waker().wake_by_ref();
        }
        due
    }
}

type Requests = Pin<Box<Streaming<WatchRequest>>>;

/// The body of an answer.
struct WatchBody<B> {
    /// Of no user.
    backend: B,
    /// Why the client's token is not valid.
    refused: Option<Error>,
    /// The span of the call, if it is sampled.
    call: Option<CallSpan>,
    header: HeaderFields,
    /// `None` once the client has sent its last request. As in etcd the watches go on.
    requests: Option<Requests>,
    watchers: Watchers,
    history: HistoryShare,
    waker: Arc<AtomicWaker>,
    buffer: FrameBuffer,
    /// Encoded pieces, to be sent first.
    frames: VecDeque<Bytes>,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// How the call ends; `None` while it goes on.
    end: Option<Status>,
}

/// No field is pinned within the body.
impl<B> Unpin for WatchBody<B> {}

impl<B: Backend> WatchBody<B> {
    /// Takes requests. Not while answers wait, so that their number is bounded.
    fn take_requests(&mut self, cx: &mut Context<'_>) {
        while let Some(requests) = &mut self.requests
            && !self.watchers.stream.has_replies()
        {
            match requests.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    let _span = self.span(&request);
                    match self.refusal(&request) {
                        Some(reason) => self.watchers.stream.refuse(reason),
                        None => self.watchers.take(request),
                    }
                }
                Poll::Ready(Some(Err(status))) => {
                    self.end = Some(in_go(&status).unwrap_or(status));
                    return;
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return,
            }
        }
    }

    /// The span of a watcher's creation. It ends with that, since a watcher may last for ever.
    fn span(&self, request: &WatchRequest) -> Option<ChildSpan> {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => Some(self.call.as_ref()?.of(create)),
            _ => None,
        }
    }

    /// Why a client without a valid token may not create the watcher. As in etcd this is an answer:
    /// the call goes on.
    fn refusal(&self, request: &WatchRequest) -> Option<&'static str> {
        let Some(RequestUnion::CreateRequest(_)) = &request.request_union else {
            return None;
        };
        let refused = self
            .refused
            .as_ref()
            .filter(|_| self.backend.auth_enabled());
        Some(match refused? {
            Error::State(error) => denial(error),
            _ => denial(&StateError::PermissionDenied),
        })
    }

    /// Encodes messages, up to the size of a batch.
    fn encode(&mut self, cx: &mut Context<'_>) {
        let header = self.backend.header();
        if header.raft_term != self.header.term() {
            self.header = HeaderFields::new(header);
        }
        let stream = &mut self.watchers.stream;
        self.history.admit(stream, cx);
        while self.buffer.bytes() < BATCH_BYTES {
            match stream.next() {
                Ok(Some(message)) => self.buffer.push(&message, &self.header),
                Ok(None) => break,
                // Clients watch again, elsewhere, after the code of this one, which is that of a
                // failed engine as well.
                Err(StateError::Corrupt) => {
                    self.end = Some(Error::Stopped.into());
                    break;
                }
                Err(error) => {
                    self.end = Some(Error::from(error).into());
                    break;
                }
            }
        }
        let pieces = self.buffer.take().into_iter();
        self.frames
            .extend(pieces.map(|piece| self.history.hold(piece)));
        if !stream.has_replies() {
            self.history.end_step();
        }
    }
}

impl<B: Backend> hyper::body::Body for WatchBody<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        loop {
            if let Some(piece) = body.frames.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if let Some(status) = body.end.take() {
                // The body is not polled after its trailers.
                return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
            }
            body.waker.register(cx.waker());
            body.take_requests(cx);
            let _ = body.watchers.poll_progress(cx);
            body.encode(cx);
            if !body.frames.is_empty() || body.end.is_some() {
                continue;
            }
            if body.drained.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            body.end = Some(Error::Stopped.into());
        }
    }
}

pub(super) fn trailers(status: &Status) -> http::HeaderMap {
    let mut trailers = http::HeaderMap::new();
    // It fails only for texts that cannot be in a header; the code itself remains.
    if status.add_header(&mut trailers).is_err() {
        let code = Status::new(status.code(), "");
        let _ = code.add_header(&mut trailers);
    }
    trailers
}
