//! Requests over HTTP/2 that are no calls: the v2 API, and v3's JSON, from clients that prefer it.
//!
//! They are forwarded over HTTP/1.1, which all members speak, each by a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Body;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::frame::Code;
use super::hpack::{self, Decoder};
use super::session::Session;
use crate::answers::{self, Refusal};
use crate::body::AnswerBody;
use crate::headers;
use crate::http1;
use crate::proxy::{Asked, Proxy};
use crate::request::{Origin, Outgoing};
use crate::turns::Turns;
use crate::wait::{self, Wait};

/// More than any member takes: a value of 1.5 MiB in base64.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request, until it is answered.
pub(super) struct Other {
    proxy: Arc<Proxy>,
    session: Arc<Session>,
    stream: u32,
    client: SocketAddr,
    /// What has come of it; gone once all has.
    coming: Mutex<Option<(Parts, BytesMut)>>,
    task: Mutex<Option<AbortHandle>>,
    /// What was held up has gone.
    room: Notify,
}

impl Other {
    pub(super) fn new(
        proxy: &Arc<Proxy>,
        session: &Arc<Session>,
        stream: u32,
        client: SocketAddr,
        parts: Parts,
    ) -> Arc<Other> {
        Arc::new(Other {
            proxy: Arc::clone(proxy),
            session: Arc::clone(session),
            stream,
            client,
            coming: Mutex::new(Some((parts, BytesMut::new()))),
            task: Mutex::default(),
            room: Notify::new(),
        })
    }

    /// Some of its body has come.
    pub(super) fn data(self: &Arc<Other>, data: &[u8], end: bool) {
        self.session.consumed(self.stream, data.len());
        let mut coming = self.coming.lock();
        let Some((_, body)) = coming.as_mut() else {
            return;
        };
        if BODY_BYTES_MAX < body.len() + data.len() {
            *coming = None;
            let too_large = answers::empty(StatusCode::PAYLOAD_TOO_LARGE);
            self.session.fields(self.stream, &head(&too_large), true);
            return;
        }
        body.extend_from_slice(data);
        if end && let Some((parts, body)) = coming.take() {
            let answering = Arc::clone(self).answer(parts, body.freeze());
            *self.task.lock() = Some(tokio::spawn(answering).abort_handle());
        }
    }

    /// What was held up has gone.
    pub(super) fn has_room(&self) {
        self.room.notify_one();
    }

    /// The client does not want it any more.
    pub(super) fn cancel(&self) {
        *self.coming.lock() = None;
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    async fn answer(self: Arc<Other>, parts: Parts, body: Bytes) {
        let response = self.response(&parts, &body).await;
        let ends = response.body().is_end_stream() || parts.method == Method::HEAD;
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
                self.session.reset(self.stream, Code::INTERNAL_ERROR);
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

    async fn response(&self, parts: &Parts, body: &[u8]) -> Response<AnswerBody> {
        let proxy = &self.proxy;
        if let Some(answer) = proxy.own_answer(&parts.method, parts.uri.path()) {
            return answer;
        }
        let keys = crate::request::is_keys(parts.uri.path());
        let asked = Asked::new(proxy, &parts.method, keys);
        if proxy.has_seen(&parts.headers) {
            return asked.answered(proxy, Err(Refusal::Loop));
        }
        let origin = Origin {
            client: self.client,
            id: &proxy.id,
        };
        let answer = match Wait::of(parts, origin) {
            Some(wait) => wait::forward(proxy, wait, None).await,
            None => {
                let mut outgoing = Outgoing::whole(parts, body, origin);
                let mut turns = Turns::of_request(proxy, outgoing.read);
                let reply = http1::forward_in(&mut turns, proxy, &mut outgoing).await;
                reply.and_then(|reply| {
                    let response = reply.into_response();
                    response.map_err(|_| http1::refusal(&outgoing))
                })
            }
        };
        asked.answered(proxy, answer)
    }
}

/// The fields of an answer.
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

/// The head of a request whose fields are these, compressed without a table. `None`: it is none.
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
    // Some clients send nonsense; members get "localhost" then.
    let uri = match Authority::try_from(authority) {
        Ok(authority) => uri.scheme("http").authority(authority),
        Err(_) => uri,
    };
    *request.uri_mut() = uri.build().ok()?;
    Some(request.into_parts().0)
}
