//! The requests that the fast path takes: parsed from the bare bytes, and written for members at
//! once.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use http::Method;
use httparse::{Header, Status};

use crate::context::Context;
use crate::http1::client;
use crate::http1::headers::{self, PROXIED_BY, X_FORWARDED_FOR};
use crate::http1::request::{SMALL_BYTES_MAX, UpstreamRequest};
use crate::http1::request_head::RequestHead;
use crate::own;
use crate::policy::subject::{self, Subject};
use crate::policy::watch;

/// hyper parses requests with more header fields.
const HEADERS_MAX: usize = 48;

/// A request whose head is complete.
pub(super) struct ParsedRequest {
    pub(super) method: Method,
    pub(super) subject: Subject,
    gateway: bool,
    /// It changes nothing.
    read: bool,
    /// It is a v2 watch.
    pub(super) watches: bool,
    /// The client's `Connection` field is `close`.
    pub(super) last: bool,
    /// The size of the client's head.
    pub(super) head_bytes: usize,
    body_bytes: usize,
    /// What members receive.
    head: RequestHead,
}

/// The fields of a head that matter here.
#[derive(Default)]
struct RequestFields {
    host: bool,
    last: bool,
    length: Option<u64>,
}

/// A request that is incomplete, or that hyper has to parse.
#[derive(Debug)]
pub(super) struct Declined;

/// Whether the blank line has arrived.
pub(super) fn has_head(received: &[u8]) -> bool {
    received.windows(4).any(|four| four == b"\r\n\r\n")
}

/// Parses a request from the bytes that have arrived.
pub(super) fn parse(
    received: &[u8],
    context: &Context,
    client: SocketAddr,
) -> Result<ParsedRequest, Declined> {
    // httparse skips line ends before a request, and hyper's targets are not mended after them.
    if !received.first().is_some_and(u8::is_ascii_uppercase) {
        return Err(Declined);
    }
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let parsing = parsed.parse_with_uninit_headers(received, &mut fields);
    let Ok(Status::Complete(head_bytes)) = parsing else {
        return Err(Declined);
    };
    if has_bare_line_feed(&received[..head_bytes]) {
        return Err(Declined);
    }
    let (Some(method), Some(target), Some(1)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Declined);
    };
    let method = forwarded_method(method, target, context).ok_or(Declined)?;
    let target = mended(target);
    let path = target.split('?').next().unwrap_or_default();
    let mut head = RequestHead::new(&method, &target);
    let found = write_fields(&mut head, parsed.headers, context, client)?;
    let length = found.length.unwrap_or(0);
    if SMALL_BYTES_MAX < length || !found.host {
        return Err(Declined);
    }
    head.frame(&method, Some(length));
    let subject = Subject::of(path);
    let keys = subject == Subject::Keys;
    Ok(ParsedRequest {
        subject,
        gateway: subject::is_gateway(path),
        read: subject::reads(&method, path),
        watches: method == Method::GET && keys && watch::is_watch(&target[path.len()..]),
        last: found.last,
        head_bytes,
        body_bytes: usize::try_from(length).map_err(|_| Declined)?,
        head,
        method,
    })
}

/// Whether a line of a head ends without a carriage return. httparse has checked that one is
/// followed by a line feed. The port mends no target of such a connection.
fn has_bare_line_feed(head: &[u8]) -> bool {
    let count = |one: u8| head.iter().filter(|byte| **byte == one).count();
    count(b'\n') != count(b'\r')
}

/// Encodes characters that Go's servers accept in a target although RFC 3986 does not. Members
/// written in Rust refuse them.
fn mended(target: &str) -> Cow<'_, str> {
    match target.contains(['"', '<', '>', '`']) {
        true => {
            let quoted = target.replace('"', "%22").replace('`', "%60");
            Cow::Owned(quoted.replace('<', "%3C").replace('>', "%3E"))
        }
        false => Cow::Borrowed(target),
    }
}

/// The method of a request that a member is to answer.
fn forwarded_method(method: &str, target: &str, context: &Context) -> Option<Method> {
    let method = match method {
        "GET" => Method::GET,
        "PUT" => Method::PUT,
        "POST" => Method::POST,
        "DELETE" => Method::DELETE,
        _ => return None,
    };
    let path = target.split('?').next().unwrap_or_default();
    // hyper cuts a fragment off, and members get the rest.
    let forwards = path.starts_with('/') && !target.contains('#');
    (forwards && !own::is_own(context, &method, path)).then_some(method)
}

impl ParsedRequest {
    /// The size of the client's request, in bytes.
    pub(super) fn length(&self) -> usize {
        self.head_bytes + self.body_bytes
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        self.head.target()
    }

    /// The header fields as members receive them.
    pub(super) fn fields(&self) -> &[u8] {
        self.head.fields()
    }

    /// The whole request as members receive it.
    pub(super) fn into_upstream(self, body: &[u8]) -> UpstreamRequest {
        UpstreamRequest {
            method: self.method,
            subject: self.subject,
            read: self.read,
            gateway: self.gateway,
            bytes: self.head.finish(body).freeze(),
            streamed: None,
        }
    }
}

/// Writes the header fields that members receive.
fn write_fields(
    head: &mut RequestHead,
    fields: &[Header<'_>],
    context: &Context,
    client: SocketAddr,
) -> Result<RequestFields, Declined> {
    let mut found = RequestFields::default();
    let mut forwarded = false;
    let client = client.ip().to_canonical().to_string();
    for field in fields {
        if found.is_for_proxy(field, context)? {
            continue;
        }
        if field.name.eq_ignore_ascii_case(X_FORWARDED_FOR.as_str()) {
            // hyper's way joins several of them.
            if std::mem::replace(&mut forwarded, true) {
                return Err(Declined);
            }
            let list = [field.value, b", ", client.as_bytes()].concat();
            head.field(X_FORWARDED_FOR.as_str(), &list);
        } else {
            head.field(field.name, field.value);
        }
    }
    if !forwarded {
        head.field(X_FORWARDED_FOR.as_str(), client.as_bytes());
    }
    head.field(PROXIED_BY.as_str(), context.id.as_bytes());
    Ok(found)
}

impl RequestFields {
    /// Whether a field is for this proxy alone.
    fn is_for_proxy(&mut self, field: &Header<'_>, context: &Context) -> Result<bool, Declined> {
        let (id, limits) = (&context.id, &context.config.limits);
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => {
                let again = std::mem::replace(&mut self.host, true);
                let access = &limits.access;
                let sound = keelson_port::is_host(field.value) && access.takes_host(field.value);
                match again || !sound {
                    true => Err(Declined),
                    false => Ok(false),
                }
            }
            6 if is("expect") => Err(Declined),
            6 if is("origin") && !limits.access.takes_all_origins() => Err(Declined),
            7 if is("upgrade") => Err(Declined),
            10 if is("connection") => self.connection(field.value).map(|()| true),
            14 if is("content-length") => {
                if self.length.is_some() {
                    return Err(Declined);
                }
                self.length = Some(client::length(field.value).map_err(|_| Declined)?);
                Ok(true)
            }
            17 if is("transfer-encoding") => Err(Declined),
            18 if is(PROXIED_BY.as_str()) && field.value == id.as_bytes() => Err(Declined),
            _ => Ok(headers::is_hop_by_hop_name(field.name)),
        }
    }

    /// `Connection` may name fields that end at this hop. hyper's way removes those.
    fn connection(&mut self, value: &[u8]) -> Result<(), Declined> {
        if value.eq_ignore_ascii_case(b"close") {
            self.last = true;
            return Ok(());
        }
        match value.eq_ignore_ascii_case(b"keep-alive") {
            true => Ok(()),
            false => Err(Declined),
        }
    }
}

#[cfg(test)]
mod tests;
