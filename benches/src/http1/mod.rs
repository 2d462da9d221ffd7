//! The load over HTTP/1.1: raw sockets, requests that are fixed bytes, one thread.
//!
//! It shares two cores with the servers it measures, so it does no more than system calls and one
//! look at each answer's head.

pub mod answers;
pub mod closed_loop;
pub mod connection;
pub mod crowd;

use anyhow::{Context, Result};

/// A request without its host.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// A form, if the method has a body.
    pub form: Option<String>,
}

impl Request {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Request {
        Request {
            method: "GET",
            path: path.into(),
            form: None,
        }
    }

    /// A PUT of a form.
    pub fn put(path: impl Into<String>, form: impl Into<String>) -> Request {
        Request {
            method: "PUT",
            path: path.into(),
            form: Some(form.into()),
        }
    }

    /// Its bytes when sent to `host`.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let (method, path) = (self.method, &self.path);
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        let rest = match &self.form {
            None => "\r\n".to_string(),
            Some(form) => format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n\
                 {form}",
                form.len()
            ),
        };
        (head + &rest).into_bytes()
    }
}

/// Host and port of a member's URL.
///
/// # Errors
/// It is not a plain `http://host:port`.
pub fn host(url: &str) -> Result<&str> {
    let host = url.strip_prefix("http://");
    host.with_context(|| format!("{url} does not begin with http://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_bytes() {
        let get = Request::get("/v2/keys/foo?wait=true").bytes("127.0.0.1:2379");
        let expected = "GET /v2/keys/foo?wait=true HTTP/1.1\r\nHost: 127.0.0.1:2379\r\n\r\n";
        assert_eq!(String::from_utf8(get).unwrap(), expected);
        let put = Request::put("/v2/keys/foo", "value=bar").bytes("h:1");
        let put = String::from_utf8(put).unwrap();
        assert!(put.starts_with("PUT /v2/keys/foo HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(put.ends_with("Content-Length: 9\r\n\r\nvalue=bar"));
        assert!(host("https://h:1").is_err());
    }
}
