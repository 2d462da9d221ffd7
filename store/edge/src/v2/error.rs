//! The keys API's errors: one table from codes to texts and HTTP statuses.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use keelson_core::tree::TreeError;

use super::event::SPACE;
use super::form::FormError;
use super::json;
use crate::Error;
use crate::v2::ChangeError;

/// etcd's error codes that originate in the edge and not in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Code {
    Unauthorized = 110,
    PrevValueRequired = 201,
    TtlNaN = 202,
    IndexNaN = 203,
    InvalidField = 209,
    InvalidForm = 210,
    RefreshValue = 211,
    RefreshTtlRequired = 212,
    RaftInternal = 300,
}

/// An error as clients receive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyError {
    code: u16,
    cause: Cow<'static, [u8]>,
    /// The index of the tree; 0 if the request did not reach the tree.
    pub(super) index: u64,
}

/// The text and the status of each code. etcd's table, without codes that neither etcd nor
/// Keelson returns.
fn described(code: u16) -> (&'static str, StatusCode) {
    match code {
        100 => ("Key not found", StatusCode::NOT_FOUND),
        101 => ("Compare failed", StatusCode::PRECONDITION_FAILED),
        102 => ("Not a file", StatusCode::FORBIDDEN),
        104 => ("Not a directory", StatusCode::BAD_REQUEST),
        105 => ("Key already exists", StatusCode::PRECONDITION_FAILED),
        107 => ("Root is read only", StatusCode::BAD_REQUEST),
        108 => ("Directory not empty", StatusCode::FORBIDDEN),
        110 => (
            "The request requires user authentication",
            StatusCode::UNAUTHORIZED,
        ),
        201 => (
            "PrevValue is Required in POST form",
            StatusCode::BAD_REQUEST,
        ),
        202 => (
            "The given TTL in POST form is not a number",
            StatusCode::BAD_REQUEST,
        ),
        203 => (
            "The given index in POST form is not a number",
            StatusCode::BAD_REQUEST,
        ),
        209 => ("Invalid field", StatusCode::BAD_REQUEST),
        210 => ("Invalid POST form", StatusCode::BAD_REQUEST),
        211 => ("Value provided on refresh", StatusCode::BAD_REQUEST),
        212 => ("A TTL must be provided on refresh", StatusCode::BAD_REQUEST),
        401 => (
            "The event in requested index is outdated and cleared",
            StatusCode::BAD_REQUEST,
        ),
        _ => ("Raft Internal Error", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

impl KeyError {
    /// An error of the request itself.
    pub(super) const fn new(code: Code, cause: &'static str) -> KeyError {
        KeyError {
            code: code as u16,
            cause: Cow::Borrowed(cause.as_bytes()),
            index: 0,
        }
    }

    /// The error for a request without the permission.
    pub(super) fn unauthorized() -> KeyError {
        KeyError::new(Code::Unauthorized, "Insufficient credentials")
    }

    /// etcd's error for what failed outside of the tree.
    pub(super) fn other(cause: &str) -> KeyError {
        KeyError {
            code: Code::RaftInternal as u16,
            cause: Cow::Owned(cause.as_bytes().to_vec()),
            index: 0,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        described(self.code).1
    }

    pub(super) fn body(&self) -> Bytes {
        let message = described(self.code).0;
        let mut out = BytesMut::with_capacity(96 + self.cause.len());
        out.extend_from_slice(b"{\"errorCode\":");
        json::number(&mut out, u64::from(self.code));
        out.extend_from_slice(b",\"message\":");
        json::string(&mut out, message.as_bytes());
        if !self.cause.is_empty() {
            out.extend_from_slice(b",\"cause\":");
            json::string(&mut out, &self.cause);
        }
        out.extend_from_slice(b",\"index\":");
        json::number(&mut out, self.index);
        out.put_slice(b"}\n");
        out.freeze()
    }
}

impl From<FormError> for KeyError {
    fn from(error: FormError) -> KeyError {
        KeyError {
            code: Code::InvalidForm as u16,
            cause: Cow::Owned(error.to_string().into_bytes()),
            index: 0,
        }
    }
}

impl From<TreeError> for KeyError {
    fn from(error: TreeError) -> KeyError {
        let cause = error.cause.strip_prefix(SPACE).unwrap_or(&error.cause);
        KeyError {
            code: error.code as u16,
            cause: Cow::Owned(cause.to_vec()),
            index: error.index,
        }
    }
}

impl From<Error> for KeyError {
    fn from(error: Error) -> KeyError {
        let code = match error {
            // etcd accepts any request of up to 10 MiB. A retry, as after a 500, would be useless.
            Error::RequestTooLarge => Code::InvalidForm,
            _ => Code::RaftInternal,
        };
        KeyError {
            code: code as u16,
            cause: Cow::Owned(error.to_string().into_bytes()),
            index: 0,
        }
    }
}

impl From<ChangeError> for KeyError {
    fn from(error: ChangeError) -> KeyError {
        match error {
            ChangeError::Tree(error) => error.into(),
            ChangeError::Other(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_core::tree::ErrorCode;

    use super::*;

    #[test]
    fn errors_are_written_as_by_etcd() {
        let refused = TreeError {
            code: ErrorCode::KeyNotFound,
            cause: "/1/nope<".into(),
            index: 48,
        };
        let timeout = ChangeError::Other(Error::TimeoutDueToLeaderFail);
        for (error, status, body) in [
            (
                KeyError::from(refused),
                404,
                r#"{"errorCode":100,"message":"Key not found","cause":"/nope\u003c","index":48}"#,
            ),
            (
                KeyError::from(timeout),
                500,
                concat!(
                    r#"{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: "#,
                    r#"request timed out, possibly due to previous leader failure","index":0}"#
                ),
            ),
            (
                KeyError::from(Error::RequestTooLarge),
                400,
                concat!(
                    r#"{"errorCode":210,"message":"Invalid POST form","#,
                    r#""cause":"etcdserver: request is too large","index":0}"#
                ),
            ),
        ] {
            assert_eq!(error.status(), status);
            assert_eq!(error.body(), format!("{body}\n"));
        }
    }
}
