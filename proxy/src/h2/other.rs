//! Requests over HTTP/2 other than gRPC calls: the v2 API, and v3's JSON gateway.
//!
//! They are forwarded over HTTP/1.1, which all members support, each by a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Body;
use keelson_port::hpack::{self, Decoder};
use keelson_port::http2::frame::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::AbortHandle;

use super::memory::{self, REQUEST_BYTES};
use super::owner::ClientSession;
use crate::answers::{self, Refusal};
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::http1::headers;
use crate::http1::request::UpstreamRequest;
use crate::http1::request_head::Origin;
use crate::policy::answer::{self, Incoming, answer};
use crate::policy::watch::WatchRequest;

/// The largest body, which is the largest form that a member accepts.
const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;

/// The time for a whole body.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A request whose body has not ended.
struct PartialRequest {
    parts: Parts,
    body: BytesMut,
    /// The memory permit of the body.
    share: Option<OwnedSemaphorePermit>,
}

impl PartialRequest {
    /// Adds data. Returns the refusal if it exceeds a bound.
    fn add(&mut self, context: &Context, data: &[u8]) -> Option<Response<AnswerBody>> {
        if BODY_BYTES_MAX < self.body.len() + data.len() {
            return Some(answers::empty(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let bytes = u32::try_from(data.len()).expect("a frame is smaller");
        let Ok(more) = Arc::clone(&context.bodies).try_acquire_many_owned(bytes) else {
            return Some(answers::crowded());
        };
        match self.share.as_mut() {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        self.body.extend_from_slice(data);
        None
    }
}

/// A request, until it is answered.
pub(super) struct HttpRequest {
    context: Arc<Context>,
    session: Arc<ClientSession>,
    stream: u32,
    client: SocketAddr,
    /// The received part; `None` once the body has ended.
    partial: Mutex<Option<PartialRequest>>,
    task: Mutex<Option<AbortHandle>>,
    /// Notified when waiting data of the answer has been sent.
    room: Notify,
    /// The bytes reserved for its fields.
    kept: usize,
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        memory::give_back(&self.context.kept, &self.session.quota.kept, self.kept);
    }
}

impl HttpRequest {
    /// A request with its head and the size of that. `None`: there is no memory for it.
    pub(super) fn new(
        context: &Arc<Context>,
        session: &Arc<ClientSession>,
        stream: u32,
        client: SocketAddr,
        (parts, bytes): (Parts, usize),
    ) -> Option<Arc<HttpRequest>> {
        let kept = bytes + REQUEST_BYTES;
        memory::take(&context.kept, &session.quota.kept, kept).then_some(())?;
        Some(Arc::new(HttpRequest {
            context: Arc::clone(context),
            session: Arc::clone(session),
            stream,
            client,
            partial: Mutex::new(Some(PartialRequest {
                parts,
                body: BytesMut::new(),
                share: None,
            })),
            task: Mutex::default(),
            room: Notify::new(),
            kept,
        }))
    }

    /// A part of the body has been received.
    pub(super) fn data(self: &Arc<HttpRequest>, data: &[u8], end: bool) {
        self.session.release_capacity(self.stream, data.len());
        let mut partial = self.partial.lock();
        let Some(request) = partial.as_mut() else {
            return;
        };
        if let Some(refused) = request.add(&self.context, data) {
            drop(partial);
            self.refuse(refused);
        } else if end && let Some(whole) = partial.take() {
            self.run(Arc::clone(self).answer(whole));
        } else if self.task.lock().is_none() {
            self.run(Arc::clone(self).give_up());
        }
    }

    /// Answers without a member, and drops the rest of the body.
    pub(super) fn refuse(self: &Arc<HttpRequest>, answer: Response<AnswerBody>) {
        let partial = self.partial.lock().take();
        let bare = partial.is_some_and(|partial| partial.parts.method == Method::HEAD);
        self.run(Arc::clone(self).say(answer, bare));
    }

    /// Spawns a task and aborts the one before.
    fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(work).abort_handle();
        if let Some(before) = self.task.lock().replace(task) {
            before.abort();
        }
    }

    /// Answers 408 if the body does not end in time. The received part takes memory.
    async fn give_up(self: Arc<HttpRequest>) {
        tokio::time::sleep(BODY_TIME_MAX).await;
        let unfinished = self.partial.lock().take();
        if unfinished.is_some() {
            let late = answers::empty(StatusCode::REQUEST_TIMEOUT);
            self.say(late, false).await;
        }
    }

    /// Waiting data of the answer has been sent.
    pub(super) fn has_room(&self) {
        self.room.notify_one();
    }

    /// The client has reset the stream or disconnected.
    pub(super) fn cancel(&self) {
        *self.partial.lock() = None;
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    async fn answer(self: Arc<HttpRequest>, whole: PartialRequest) {
        let bare = whole.parts.method == Method::HEAD;
        let mending = self
            .context
            .config
            .limits
            .access
            .cross_origin(&whole.parts.headers);
        let mut response = self.response(whole).await;
        if let Some(mending) = mending {
            mending.mend(response.headers_mut());
        }
        self.say(response, bare).await;
    }

    /// Sends an answer; `bare`: without its body.
    async fn say(self: Arc<HttpRequest>, response: Response<AnswerBody>, bare: bool) {
        let ends = response.body().is_end_stream() || bare;
        self.session.fields(self.stream, &head(&response), ends);
        if !ends {
            self.send(response.into_body()).await;
        }
    }

    async fn send(&self, mut body: AnswerBody) {
        loop {
            let Some(frame) = body.frame().await else {
                self.session.data(self.stream, &[], true);
                return;
            };
            let Ok(frame) = frame else {
                self.session.reset(self.stream, ErrorCode::INTERNAL_ERROR);
                return;
            };
            if let Ok(data) = frame.into_data() {
                self.session.data(self.stream, &data, false);
            }
            while !self.session.is_clear(self.stream) {
                self.room.notified().await;
            }
        }
    }

    async fn response(&self, whole: PartialRequest) -> Response<AnswerBody> {
        let PartialRequest { parts, body, share } = whole;
        let context = &self.context;
        let record = match answer::admit(context, &parts) {
            Ok(record) => record,
            Err(answer) => return *answer,
        };
        let origin = Origin {
            client: self.client,
            id: &context.id,
        };
        let answer = match WatchRequest::of(&parts, origin) {
            Some(watch) => {
                // A watch may take long, and does not use its body.
                drop((body, share));
                let Some(permit) = context.watches.begin(self.client) else {
                    return record.refused(context, Refusal::Crowded);
                };
                let incoming = Incoming::Watch(watch, Some(Box::new(permit)));
                answer(context, record, incoming).await
            }
            None => {
                // The semaphore is never closed.
                let _permit = self.session.quota.running.acquire().await;
                let request = UpstreamRequest::whole(&parts, &body, origin);
                drop(body);
                let answer = answer(context, record, Incoming::Request(request)).await;
                drop(share);
                answer
            }
        };
        answer.into_response(context)
    }
}

/// The field block of an answer.
fn head(response: &Response<AnswerBody>) -> BytesMut {
    let mut block = BytesMut::with_capacity(256);
    let status = response.status();
    hpack::put_field(&mut block, b":status", status.as_str().as_bytes(), false);
    for (name, value) in response.headers() {
        if !headers::is_hop_by_hop(name) {
            let (name, sensitive) = (name.as_str().as_bytes(), value.is_sensitive());
            hpack::put_field(&mut block, name, value.as_bytes(), sensitive);
        }
    }
    block
}

/// The head of a request from its fields, encoded without a dynamic table. `None`: it is malformed.
pub(super) fn parts(block: &[u8], method: &[u8], authority: &[u8]) -> Option<Parts> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    let mut malformed = false;
    let mut path = None;
    let read = Decoder::new(0).decode(block, usize::MAX, |name, value, sensitive| match name {
        b":path" => path = Some(Bytes::copy_from_slice(value)),
        _ => match (
            HeaderName::from_lowercase(name),
            HeaderValue::from_bytes(value),
        ) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(sensitive);
                request.headers_mut().append(name, value);
            }
            _ => malformed = true,
        },
    });
    if malformed || read.is_err() {
        return None;
    }
    let uri = Uri::builder().path_and_query(path?.as_ref());
    // An invalid authority is dropped; members then get "localhost".
    let uri = match Authority::try_from(authority) {
        Ok(authority) => uri.scheme("http").authority(authority),
        Err(_) => uri,
    };
    *request.uri_mut() = uri.build().ok()?;
    Some(request.into_parts().0)
}
