//! The forms of answers that the resources of the v2 API share.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use keelson_core::ClusterId;

use super::error::KeyError;
use super::json;
use crate::go::{X_ETCD_CLUSTER_ID, plain};

const X_ETCD_INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
const X_RAFT_INDEX: HeaderName = HeaderName::from_static("x-raft-index");
const X_RAFT_TERM: HeaderName = HeaderName::from_static("x-raft-term");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The number of headers of a keys answer, including those for pages of other origins.
const HEADERS: usize = 8;

/// The state of the member for an answer of the keys API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The index of the tree.
    pub(super) index: u64,
    /// Raft's committed index and term.
    pub(super) raft: (u64, u64),
}

/// Builds answers with the cluster's id.
pub(super) struct Answers {
    cluster_id: HeaderValue,
}

impl Answers {
    pub(super) fn new(cluster: ClusterId) -> Answers {
        let cluster_id = HeaderValue::from_str(&cluster.to_string());
        Answers {
            cluster_id: cluster_id.expect("hexadecimal digits are visible"),
        }
    }

    /// An answer of the keys API.
    pub(super) fn key(&self, status: StatusCode, mark: Mark, body: Bytes) -> Response {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = self.key_headers(mark);
        response
    }

    /// The headers of an answer of the keys API.
    pub(super) fn key_headers(&self, mark: Mark) -> HeaderMap {
        let mut headers = self.headers();
        let (index, term) = mark.raft;
        headers.insert(X_ETCD_INDEX, HeaderValue::from(mark.index));
        headers.insert(X_RAFT_INDEX, HeaderValue::from(index));
        headers.insert(X_RAFT_TERM, HeaderValue::from(term));
        headers
    }

    /// An error of the keys API, without Raft's index and term.
    pub(super) fn key_error(&self, error: &KeyError) -> Response {
        self.key_error_with(error, error.body())
    }

    /// As [`Answers::key_error`], with an encoded body.
    pub(super) fn key_error_with(&self, error: &KeyError, body: Bytes) -> Response {
        let mut response = self.json(error.status(), body);
        let index = HeaderValue::from(error.index);
        response.headers_mut().insert(X_ETCD_INDEX, index);
        response
    }

    /// An answer about members or auth.
    pub(super) fn json(&self, status: StatusCode, body: impl Into<Body>) -> Response {
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        *response.headers_mut() = self.headers();
        response
    }

    /// An error about members or auth.
    pub(super) fn message(&self, status: StatusCode, text: &str) -> Response {
        self.json(status, message_body(text))
    }

    /// An internal error about members or auth, without a detail, as in etcd.
    pub(super) fn internal(&self) -> Response {
        self.message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// Adds the cluster's id to another answer.
    pub(super) fn name_cluster(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(X_ETCD_CLUSTER_ID, self.cluster_id.clone());
        response
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(X_ETCD_CLUSTER_ID, self.cluster_id.clone());
        headers
    }
}

/// JSON without the cluster's id: statistics.
pub(super) fn json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An error without the cluster's id, from before the resource handled the request.
pub(super) fn message(status: StatusCode, text: &str) -> Response {
    let mut response = json(message_body(text));
    *response.status_mut() = status;
    response
}

/// The error for a request without the permission.
pub(super) fn unauthorized() -> Response {
    message(StatusCode::UNAUTHORIZED, "Insufficient credentials")
}

/// The error for a method that the resource does not allow.
pub(super) fn not_allowed(allowed: &'static str) -> Response {
    let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allowed = HeaderValue::from_static(allowed);
    refused.headers_mut().insert(ALLOW, allowed);
    refused
}

fn message_body(text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + text.len());
    out.extend_from_slice(b"{\"message\":");
    json::string(&mut out, text.as_bytes());
    out.extend_from_slice(b"}");
    out.freeze()
}
