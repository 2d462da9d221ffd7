//! Answers in JSON: one message, or an error.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use tonic::body::Body;
use tonic::{Status, Streaming};
use tonic_prost::ProstDecoder;

use super::{CallAnswer, JsonAnswer};
use crate::errors::http_status;
use crate::large::Room;

/// The headers of an answer without an error.
pub(super) const HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("grpc-metadata-content-type", "application/grpc"),
];

/// The answer to a call that has one message.
pub(super) async fn unary<A: JsonAnswer>(called: CallAnswer) -> Response {
    let (head, body) = called.into_parts();
    let message = match failed(&head.headers) {
        Some(status) => Err(status),
        None => first::<A>(body).await,
    };
    match message.and_then(|message| encode(&message)) {
        Ok(body) => {
            // A large answer keeps the share that its handler took.
            let body = match head.extensions.get::<Room>() {
                Some(room) => room.hold(body),
                None => body,
            };
            (HEADERS, body).into_response()
        }
        Err(status) => failure(&status),
    }
}

/// The error of a call that has no message.
pub(super) fn failed(headers: &http::HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    (status.code() != tonic::Code::Ok).then_some(status)
}

/// The messages of a call.
pub(super) fn messages<A: JsonAnswer>(body: Body) -> Streaming<A> {
    let decoder = ProstDecoder::<A>::default();
    Streaming::new_response(decoder, body, StatusCode::OK, None, Some(usize::MAX))
}

async fn first<A: JsonAnswer>(body: Body) -> Result<A, Status> {
    let mut messages = messages::<A>(body);
    let first = messages.message().await?;
    // The call ends with its status, by which it is counted.
    messages.trailers().await?;
    first.ok_or_else(|| Status::internal("the call has no answer"))
}

fn encode<A: Serialize>(message: &A) -> Result<Bytes, Status> {
    let body = serde_json::to_vec(message);
    body.map(Bytes::from).map_err(|error| unknown_enum(&error))
}

/// The error for an enum value that a newer member has sent, for which this release has no name.
pub(super) fn unknown_enum(error: &serde_json::Error) -> Status {
    Status::internal(error.to_string())
}

/// The body of an error. etcd 3.4 and 3.5 have `error`, all releases `message` and `code`, and
/// those from 3.6 on may have `details`.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    message: &'a str,
    code: i32,
    details: [(); 0],
}

/// The answer of a call that failed before its first message.
pub(crate) fn failure(status: &Status) -> Response {
    let failure = Failure {
        error: status.message(),
        message: status.message(),
        code: status.code() as i32,
        details: [],
    };
    let body = serde_json::to_vec(&failure).expect("strings and numbers are JSON");
    let headers = [(CONTENT_TYPE, "application/json")];
    (http_status(status.code()), headers, body).into_response()
}
