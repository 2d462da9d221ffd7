//! Streamed answers: each message is one chunk, `{"result":{...}}` and a line feed.
//!
//! As in etcd the head is sent with the first message, so that an error before it has its HTTP
//! status. A message is taken from its service only when the connection has room for it.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use tonic::{Status, Streaming};

use super::answer::{HEADERS, failed, messages, unknown_enum};
use super::{CallAnswer, Calls, JsonAnswer};
use crate::Error;
use crate::account::client;
use crate::errors::http_status;
use crate::v3::Unread;

/// The answer to a call that has a stream of messages.
pub(super) async fn answer<C: Calls, A: JsonAnswer>(calls: &C, called: CallAnswer) -> Response {
    let (head, body) = called.into_parts();
    let mut answers = StreamedAnswers {
        messages: messages::<A>(body),
        unread: calls.unread().clone(),
        client: client(),
    };
    let first = match failed(&head.headers) {
        Some(status) => Some(Err(status)),
        None => answers.next().await,
    };
    match first {
        Some(Ok(first)) => {
            let first = stream::iter([Ok::<_, Infallible>(first)]);
            let body = axum::body::Body::from_stream(first.chain(answers.chunks()));
            (HEADERS, body).into_response()
        }
        Some(Err(status)) => {
            let headers = [(CONTENT_TYPE, "application/json")];
            (http_status(status.code()), headers, error_chunk(&status)).into_response()
        }
        None => ([(CONTENT_TYPE, "application/json")], "").into_response(),
    }
}

/// The answers of a call.
struct StreamedAnswers<A> {
    messages: Streaming<A>,
    unread: Unread,
    /// The client whose connection has the answers.
    client: Option<SocketAddr>,
}

impl<A: JsonAnswer> StreamedAnswers<A> {
    /// The chunk of the next message; `None` at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let message = self.messages.message().await.transpose()?;
        let chunk = match message.and_then(|message| result_chunk(&message)) {
            Ok(chunk) => chunk,
            Err(status) => return Some(Err(status)),
        };
        let held = self.unread.chunk(self.client, chunk).await;
        Some(held.ok_or_else(|| Error::TooManyRequests.into()))
    }

    /// The chunks of all messages, and of the error that ends them.
    fn chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        stream::unfold(Some(self), |answers| async {
            let mut answers = answers?;
            Some(match answers.next().await? {
                Ok(chunk) => (Ok(chunk), Some(answers)),
                Err(status) => (Ok(error_chunk(&status)), None),
            })
        })
    }
}

#[derive(Serialize)]
struct ResultChunk<'a, A> {
    result: &'a A,
}

fn result_chunk<A: Serialize>(result: &A) -> Result<Bytes, Status> {
    let chunk = serde_json::to_vec(&ResultChunk { result });
    let mut chunk = chunk.map_err(|error| unknown_enum(&error))?;
    chunk.push(b'\n');
    Ok(Bytes::from(chunk))
}

#[derive(Serialize)]
struct ErrorChunk<'a> {
    error: StreamFailure<'a>,
}

/// The error of a stream. etcd 3.4 and 3.5 have the first four fields, later releases `code`,
/// `message` and `details`; clients read either.
#[derive(Serialize)]
struct StreamFailure<'a> {
    grpc_code: i32,
    http_code: u16,
    message: &'a str,
    http_status: &'a str,
    code: i32,
    details: [(); 0],
}

fn error_chunk(status: &Status) -> Bytes {
    let (code, http) = (status.code() as i32, http_status(status.code()));
    let chunk = ErrorChunk {
        error: StreamFailure {
            grpc_code: code,
            http_code: http.as_u16(),
            message: status.message(),
            http_status: http.canonical_reason().unwrap_or_default(),
            code,
            details: [],
        },
    };
    let mut chunk = serde_json::to_vec(&chunk).expect("strings and numbers are JSON");
    chunk.push(b'\n');
    Bytes::from(chunk)
}
