//! Requests and replies.

use std::fmt;

use anyhow::{Context, Result};

/// Longer bodies are cut in messages.
const SHOWN: usize = 1_200;

/// A request, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method; any word.
    pub method: String,
    /// The target: path and query, or any other bytes; sent unchanged.
    pub target: Vec<u8>,
    /// Headers beyond `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body; without one, no `Content-Length` is sent.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, target: impl AsRef<[u8]>) -> Request {
        Request {
            method: method.to_string(),
            target: target.as_ref().to_vec(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A GET.
    pub fn get(target: impl AsRef<[u8]>) -> Request {
        Request::new("GET", target)
    }

    /// A PUT of a form.
    pub fn put(target: impl AsRef<[u8]>, form: impl AsRef<[u8]>) -> Request {
        Request::new("PUT", target).form(form)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    /// Sets the body, without a content type.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Request {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// Sets the body, with the content type of HTML forms.
    pub fn form(self, form: impl AsRef<[u8]>) -> Request {
        self.header("Content-Type", "application/x-www-form-urlencoded")
            .body(form)
    }

    /// The target as text.
    pub fn target_text(&self) -> String {
        String::from_utf8_lossy(&self.target).into_owned()
    }

    /// The bytes on the wire.
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let mut bytes = format!("{} ", self.method).into_bytes();
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(format!(" HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// The request with every `from` in its target and body replaced.
    pub fn replaced(&self, from: &str, to: &str) -> Request {
        let replace = |bytes: &[u8]| replace_bytes(bytes, from.as_bytes(), to.as_bytes());
        Request {
            target: replace(&self.target),
            body: self.body.as_deref().map(replace),
            ..self.clone()
        }
    }
}

fn replace_bytes(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            out.extend_from_slice(to);
            rest = after;
        } else {
            out.push(*byte);
            rest = &rest[1..];
        }
    }
    out
}

/// Prints a line to type, roughly curl's.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target.escape_ascii())?;
        for (name, value) in &self.headers {
            write!(f, " -H '{name}: {value}'")?;
        }
        if let Some(body) = &self.body {
            write!(f, " -d '{}'", shown(body))?;
        }
        Ok(())
    }
}

/// A reply, headers in order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Headers: names in lower case, sorted; those of one name stay in their order.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Reply {
    /// The reply with that head, without its body.
    ///
    /// # Errors
    /// A header has no colon.
    pub(super) fn of(status: u16, head: &[u8]) -> Result<Reply> {
        let text = String::from_utf8_lossy(head);
        let mut headers = Vec::new();
        for line in text.split("\r\n").skip(1) {
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_lowercase(), value.trim().to_string()));
        }
        headers.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Reply {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// The value of the first header of that (lower case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The header as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            write!(f, " | {name}: {value}")?;
        }
        write!(f, " | {}", shown(&self.body))
    }
}

fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN)];
    let mut text = String::new();
    for byte in cut {
        // Quotes are not escaped: JSON full of backslashes is hard to read.
        match byte {
            b'"' | b'\'' => text.push(char::from(*byte)),
            _ => text.extend(byte.escape_ascii().map(char::from)),
        }
    }
    if cut.len() < bytes.len() {
        text += &format!("... ({} bytes)", bytes.len());
    }
    text
}
