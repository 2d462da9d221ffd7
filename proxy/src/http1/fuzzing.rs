//! For fuzz targets: requests by the fast path and by hyper, and members' heads.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use keelson_port::fuzzing::{MemoryStream, serve_http1};
use keelson_port::{Incoming, Serve};

use super::body::AnswerBody;
use super::client::{Framing, parse_head};
use super::fast_path;
use super::hyper::Answering;
use super::request::Draft;
use super::request_head::Origin;
use crate::config::{MembersFrom, ProxyConfig};
use crate::context::Context;
use crate::policy::answer::admit;
use crate::policy::watch::WatchRequest;

/// A proxy's view of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassedRequest {
    /// Members receive these bytes.
    Forwarded(Bytes),
    /// Members receive these bytes, as a v2 watch.
    Watched(Bytes),
    /// Members receive these bytes, and a body after them as it comes.
    Streamed(Bytes),
    /// The proxy answers itself.
    Own,
}

/// A proxy, which forwards nothing.
pub struct Proxy(Arc<Context>);

impl Default for Proxy {
    fn default() -> Proxy {
        let config = ProxyConfig::new(MembersFrom::Clients(vec![]));
        Proxy(Arc::new(Context::new(config, vec![])))
    }
}

/// The client of all requests.
fn client() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 8], 4711))
}

impl Proxy {
    /// The whole requests at the beginning of a connection that the fast path takes, and whether
    /// the connection ends with each.
    pub fn by_fast_path(&self, received: &[u8]) -> Vec<(PassedRequest, bool)> {
        let mut taken = vec![];
        let mut rest = received;
        while let Some((passed, length, last)) = fast_path::pass(rest, &self.0, client()) {
            taken.push((passed, last));
            rest = &rest[length..];
            if last {
                break;
            }
        }
        taken
    }

    /// All whole requests of a connection that hyper reads, and whether it ends with each.
    pub fn by_hyper(&self, received: &[u8]) -> Vec<(PassedRequest, bool)> {
        let connection = MemoryStream::new(received, received.len());
        let recorder = Recorder(Arc::clone(&self.0), Arc::default());
        let passed = Arc::clone(&recorder.1);
        serve_http1(recorder, connection.clone(), client());
        let passed = std::mem::take(&mut *passed.lock().unwrap_or_else(PoisonError::into_inner));
        let written = connection.written();
        let heads = String::from_utf8_lossy(&written).into_owned();
        let ends = heads.split_inclusive("\r\n\r\n").map(|head| {
            let head = head.to_ascii_lowercase();
            head.contains("\r\nconnection: close\r\n")
        });
        passed.into_iter().zip(ends).collect()
    }
}

/// A service that records its requests, and answers each with nothing.
struct Recorder(Arc<Context>, Arc<Mutex<Vec<PassedRequest>>>);

impl Serve for Recorder {
    type Body = AnswerBody;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        self.call_from(request, client())
    }

    fn call_from(&self, request: Request<Incoming>, client: SocketAddr) -> Answering {
        let (context, record) = (Arc::clone(&self.0), Arc::clone(&self.1));
        let (parts, body) = request.into_parts();
        Box::pin(async move {
            let id = &context.id;
            let origin = Origin { client, id };
            let passed = if admit(&context, &parts).is_err() {
                PassedRequest::Own
            } else if let Some(watch) = WatchRequest::of(&parts, origin) {
                PassedRequest::Watched(watch.first().bytes)
            } else if let Ok(request) = Draft::new(&parts, body, origin).complete().await {
                match request.streamed {
                    Some(_) => PassedRequest::Streamed(request.bytes),
                    None => PassedRequest::Forwarded(request.bytes),
                }
            } else {
                PassedRequest::Own
            };
            let mut all = record.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(passed);
            Ok(Response::new(AnswerBody::Whole(Bytes::new())))
        })
    }
}

/// The head of a member's answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: u16,
    /// The end-to-end fields.
    pub headers: HeaderMap,
    /// The length of the body, if it is known.
    pub length: Option<u64>,
    /// The bytes of the head.
    pub bytes: usize,
}

/// Parses the head of an answer to a GET, if it is complete and sound.
pub fn answer_head(received: &[u8]) -> Option<AnswerHead> {
    let mut rest = BytesMut::from(received);
    let head = parse_head(&mut rest, &Method::GET).ok()??;
    let length = match head.framing {
        Framing::Length(length) => Some(length),
        Framing::Chunked(_) | Framing::UntilClose => None,
    };
    Some(AnswerHead {
        status: head.status.as_u16(),
        headers: head.headers(),
        length,
        bytes: received.len() - rest.len(),
    })
}
