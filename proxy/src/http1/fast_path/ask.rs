//! A plain request: what of its head matters here, and the head that goes to members.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::CONTENT_LENGTH;
use httparse::{Header, Status};

use crate::context::Context;
use crate::http1::client;
use crate::http1::headers::{self, PROXIED_BY, X_FORWARDED_FOR};
use crate::http1::request::{self, SMALL_BYTES_MAX, Subject, UpstreamRequest};
use crate::own;
use crate::policy::watch;

/// More headers are hyper's.
const HEADERS_MAX: usize = 48;

/// What the first bytes of a request are.
pub(super) enum Seen {
    /// Its head is here, and it is plain.
    Plain(Ask),
    /// It is not all here, or wants more than is done here.
    Special,
}

/// A request whose head is here.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) subject: Subject,
    /// It changes nothing.
    read: bool,
    /// A v2 wait.
    pub(super) waits: bool,
    /// The client wants the connection closed after the answer.
    pub(super) last: bool,
    /// The client's head.
    pub(super) head_bytes: usize,
    body_bytes: usize,
    /// What goes to members, without the blank line.
    bytes: BytesMut,
    /// Of that, the request line.
    line_bytes: usize,
    /// Of that, without `Content-Length`.
    fields_end: usize,
}

/// What a head has been found to say.
#[derive(Default)]
struct Noted {
    host: bool,
    last: bool,
    length: Option<u64>,
}

/// Something that is not plain.
struct Special;

/// Whether the blank line has come.
pub(super) fn has_head(received: &[u8]) -> bool {
    received.windows(4).any(|four| four == b"\r\n\r\n")
}

/// Looks at what has come of a request.
pub(super) fn see(received: &[u8], context: &Context, client: SocketAddr) -> Seen {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let Ok(Status::Complete(head_bytes)) = parsed.parse_with_uninit_headers(received, &mut fields)
    else {
        return Seen::Special;
    };
    let (Some(method), Some(target), Some(1)) = (parsed.method, parsed.path, parsed.version) else {
        return Seen::Special;
    };
    let Some(method) = plain_method(method, target, context) else {
        return Seen::Special;
    };
    match Ask::new(
        method,
        &mended(target),
        head_bytes,
        parsed.headers,
        context,
        client,
    ) {
        Ok(ask) => Seen::Plain(ask),
        Err(Special) => Seen::Special,
    }
}

/// Go's servers take these characters, which are none of a URL's; members written in Rust do not.
fn mended(target: &str) -> Cow<'_, str> {
    match target.contains(['"', '<', '>', '`']) {
        true => {
            let quoted = target.replace('"', "%22").replace('`', "%60");
            Cow::Owned(quoted.replace('<', "%3C").replace('>', "%3E"))
        }
        false => Cow::Borrowed(target),
    }
}

/// The method of a request that some member is to answer.
fn plain_method(method: &str, target: &str, context: &Context) -> Option<Method> {
    let method = match method {
        "GET" => Method::GET,
        "PUT" => Method::PUT,
        "POST" => Method::POST,
        "DELETE" => Method::DELETE,
        _ => return None,
    };
    let path = target.split('?').next().unwrap_or_default();
    // A fragment is not part of a request target. hyper cuts it off.
    let forwards = path.starts_with('/') && !target.contains('#');
    (forwards && !own::is_own(context, &method, path)).then_some(method)
}

impl Ask {
    fn new(
        method: Method,
        target: &str,
        head_bytes: usize,
        fields: &[Header<'_>],
        context: &Context,
        client: SocketAddr,
    ) -> Result<Ask, Special> {
        let path = target.split('?').next().unwrap_or_default();
        let mut bytes = request::request_line(&method, target);
        let line_bytes = bytes.len();
        let noted = pass_fields(&mut bytes, fields, context, client)?;
        let fields_end = bytes.len();
        let length = noted.length.unwrap_or(0);
        if SMALL_BYTES_MAX < length || !noted.host {
            return Err(Special);
        }
        if method != Method::GET || length != 0 {
            let digits = length.to_string();
            request::field(&mut bytes, CONTENT_LENGTH.as_str(), digits.as_bytes());
        }
        let subject = Subject::of(path);
        let keys = subject == Subject::Keys;
        Ok(Ask {
            subject,
            read: request::reads(&method, path),
            waits: method == Method::GET && keys && watch::waits(&target[path.len()..]),
            last: noted.last,
            head_bytes,
            body_bytes: usize::try_from(length).map_err(|_| Special)?,
            bytes,
            line_bytes,
            fields_end,
            method,
        })
    }

    /// Of the whole request, in bytes.
    pub(super) fn length(&self) -> usize {
        self.head_bytes + self.body_bytes
    }

    /// Path and query.
    pub(super) fn path(&self) -> &str {
        let line = std::str::from_utf8(&self.bytes[..self.line_bytes]).unwrap_or_default();
        line.split(' ').nth(1).unwrap_or_default()
    }

    /// The headers as they go to members.
    pub(super) fn fields(&self) -> &[u8] {
        &self.bytes[self.line_bytes..self.fields_end]
    }

    /// All of it as it goes to members.
    pub(super) fn into_outgoing(mut self, body: &[u8]) -> UpstreamRequest {
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(body);
        UpstreamRequest {
            method: self.method,
            subject: self.subject,
            read: self.read,
            bytes: Bytes::from(self.bytes),
            rest: None,
        }
    }
}

/// Writes the headers that members get.
fn pass_fields(
    bytes: &mut BytesMut,
    fields: &[Header<'_>],
    context: &Context,
    client: SocketAddr,
) -> Result<Noted, Special> {
    let mut noted = Noted::default();
    let mut forwarded = false;
    for field in fields {
        if noted.concerns_proxy(field, context)? {
            continue;
        }
        if field.name.eq_ignore_ascii_case(X_FORWARDED_FOR.as_str()) {
            // One of them, and the client at its end; more would have to be joined.
            if std::mem::replace(&mut forwarded, true) {
                return Err(Special);
            }
            let list = [field.value, b", ", address(client).as_bytes()].concat();
            request::field(bytes, X_FORWARDED_FOR.as_str(), &list);
        } else {
            request::field(bytes, field.name, field.value);
        }
    }
    if !forwarded {
        let address = address(client);
        request::field(bytes, X_FORWARDED_FOR.as_str(), address.as_bytes());
    }
    request::field(bytes, PROXIED_BY.as_str(), context.id.as_bytes());
    Ok(noted)
}

fn address(client: SocketAddr) -> String {
    client.ip().to_canonical().to_string()
}

impl Noted {
    /// Whether a header is for this proxy alone.
    fn concerns_proxy(&mut self, field: &Header<'_>, context: &Context) -> Result<bool, Special> {
        let (id, limits) = (&context.id, &context.config.limits);
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => {
                let again = std::mem::replace(&mut self.host, true);
                let access = &limits.access;
                let sound = keelson_port::is_host(field.value) && access.takes_host(field.value);
                match again || !sound {
                    true => Err(Special),
                    false => Ok(false),
                }
            }
            6 if is("expect") => Err(Special),
            6 if is("origin") && !limits.access.takes_all_origins() => Err(Special),
            7 if is("upgrade") => Err(Special),
            10 if is("connection") => self.connection(field.value).map(|()| true),
            14 if is("content-length") => {
                if self.length.is_some() {
                    return Err(Special);
                }
                self.length = Some(client::length(field.value).map_err(|_| Special)?);
                Ok(true)
            }
            17 if is("transfer-encoding") => Err(Special),
            18 if is(PROXIED_BY.as_str()) && field.value == id.as_bytes() => Err(Special),
            _ => Ok(headers::is_hop_by_hop_name(field.name)),
        }
    }

    /// `Connection` may name headers, which then are for this hop alone; that is seldom.
    fn connection(&mut self, value: &[u8]) -> Result<(), Special> {
        if value.eq_ignore_ascii_case(b"close") {
            self.last = true;
            return Ok(());
        }
        match value.eq_ignore_ascii_case(b"keep-alive") {
            true => Ok(()),
            false => Err(Special),
        }
    }
}

#[cfg(test)]
mod tests;
