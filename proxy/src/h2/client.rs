//! A client's HTTP/2 connection: its requests become calls, or are forwarded over HTTP/1.1.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use http::uri::PathAndQuery;
use keelson_port::{Limits, Multiplexed};
use tokio::time::Instant;
use tracing::debug;

use super::call::{Asked, Call};
use super::driver::{Driver, Side};
use super::frame::{self, Code, Event, Fault, WINDOW, setting};
use super::hpack::{self, DecodeError, Decoder};
use super::member::is_hop_by_hop;
use super::other::{self, Other};
use super::session::{End, Owner, Session};
use crate::answers::Refusal;
use crate::calls;
use crate::headers::PROXIED_BY;
use crate::mode::Mode;
use crate::proxy::Proxy;

/// What a client may send on a stream before it is let in again, and in all.
const STREAM_WINDOW_BYTES: u32 = WINDOW;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

const TABLE_BYTES: usize = 4096;

/// Of a call: a service and a method. Members put it into their errors.
const PATH_BYTES_MAX: usize = 1024;

const FORWARDED_FOR: &[u8] = b"x-forwarded-for";

/// Calls that a client may give up a second before anybody can have seen to them. Members end
/// connections on which that happens too often, and other clients' calls are on the same. That many
/// calls time out together is another thing, and happens when a member dies.
const RESETS_MAX: u32 = 2000;
const RESETS_PERIOD: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::from_millis(20);

/// Sent with the first goodbye; when it comes back, all that was on its way before it has come.
const LAST_PING: [u8; 8] = *b"goodbye?";
const NO_LAST: u32 = (1 << 31) - 1;

/// Serves a connection to its end.
pub(crate) async fn serve(proxy: Arc<Proxy>, connection: Multiplexed<'_>) {
    let Multiplexed {
        socket,
        client,
        limits,
        mut begun,
    } = connection;
    let mut driver = Driver::new(socket, Client::new(proxy, client, limits), true, false);
    let mut draining = false;
    let ended = std::future::poll_fn(|cx| {
        if !draining && Pin::new(&mut begun).poll(cx).is_ready() {
            draining = true;
            driver.side.say_goodbye();
        }
        driver.poll(cx)
    });
    if let Err(error) = ended.await {
        debug!(%error, "a client's connection ended");
    }
}

fn cancel(owner: &Owner) {
    match owner {
        Owner::Client(call) | Owner::Member(call) => call.cancel(),
        Owner::Other(other) => other.cancel(),
    }
}

impl Drop for Client {
    /// However the connection ends, what it has asked for is not wanted any more.
    fn drop(&mut self) {
        for (owner, _) in self.session.close() {
            cancel(&owner);
        }
    }
}

/// Our end of a client's connection.
struct Client {
    proxy: Arc<Proxy>,
    session: Arc<Session>,
    decoder: Decoder,
    address: SocketAddr,
    /// The same as text, without the port.
    ip: Box<str>,
    /// The last stream that was looked at.
    last: u32,
    streams_max: usize,
    fields_bytes_max: usize,
    keepalive: Option<(Duration, Duration)>,
    /// Calls that were given up at once, since when.
    resets: (u32, Instant),
    fields: Fields,
}

impl Client {
    fn new(proxy: Arc<Proxy>, address: SocketAddr, limits: &Limits) -> Client {
        let windows = [STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES];
        let session = Session::new(End::Server, windows, bytes::Bytes::new());
        let fields_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
        session.put(|out| {
            let settings = [
                (setting::FIELDS_BYTES_MAX, fields_bytes_max),
                (
                    setting::CONCURRENT_STREAMS_MAX,
                    limits.concurrent_streams_max,
                ),
            ];
            let unlimited = limits.concurrent_streams_max == u32::MAX;
            frame::put_settings(out, &settings[..2 - usize::from(unlimited)]);
            frame::put_window(out, 0, CONNECTION_WINDOW_BYTES - WINDOW);
        });
        let keepalive = limits.keepalive_interval;
        Client {
            proxy,
            session: Arc::new(session),
            decoder: Decoder::new(TABLE_BYTES),
            address,
            ip: address.ip().to_canonical().to_string().into(),
            last: 0,
            streams_max: usize::try_from(limits.concurrent_streams_max).unwrap_or(usize::MAX),
            fields_bytes_max: limits.head_bytes_max,
            keepalive: keepalive.map(|interval| (interval, limits.keepalive_timeout)),
            resets: (0, Instant::now()),
            fields: Fields::default(),
        }
    }

    /// No new requests; but those that are on their way are served.
    fn say_goodbye(&mut self) {
        self.session.put(|out| {
            frame::put_goaway(out, NO_LAST, Code::NO_ERROR, "");
            frame::put_ping(out, LAST_PING, false);
        });
    }

    fn headers(&mut self, stream: u32, end: bool, block: &[u8]) -> Result<(), Fault> {
        let id = self.proxy.id.as_bytes();
        let fields = &mut self.fields;
        fields.clear();
        let each = |name: &[u8], value: &[u8], sensitive| fields.add(id, name, value, sensitive);
        let decoded = self.decoder.decode(block, self.fields_bytes_max, each);
        if matches!(decoded, Err(DecodeError::Malformed)) {
            return Err(Fault::new(Code::COMPRESSION_ERROR, "malformed fields"));
        }
        if stream <= self.last {
            return self.trailers(stream, end);
        }
        if stream.is_multiple_of(2) {
            return Err(Fault::protocol("a client's streams have odd numbers"));
        }
        if !self.session.is_open() {
            // It was told; it asks somebody else.
            return Ok(());
        }
        self.last = stream;
        if self.streams_max <= self.session.streams() {
            self.refuse(stream, Code::REFUSED_STREAM);
        } else if decoded.is_err() {
            self.too_large(stream, end);
        } else if !self.fields.are_well_formed() {
            self.refuse(stream, Code::PROTOCOL_ERROR);
        } else if self.fields.is_call() {
            self.call(stream, end);
        } else {
            self.other(stream, end);
        }
        Ok(())
    }

    fn refuse(&self, stream: u32, code: Code) {
        self.session.put(|out| frame::put_reset(out, stream, code));
    }

    fn too_large(&self, stream: u32, end: bool) {
        let mut block = BytesMut::new();
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        hpack::put_field(&mut block, b":status", status.as_str().as_bytes(), false);
        self.session.put(|out| {
            frame::put_headers(out, stream, [&block, &[]], true);
            if !end {
                frame::put_reset(out, stream, Code::NO_ERROR);
            }
        });
    }

    /// What ends a request is of no interest to anybody, but that it ends is.
    fn trailers(&self, stream: u32, end: bool) -> Result<(), Fault> {
        match end {
            true => self.data(stream, true, &[], 0),
            false => Err(Fault::protocol("fields in the middle of a request")),
        }
    }

    fn call(&mut self, stream: u32, end: bool) {
        let path = std::str::from_utf8(&self.fields.path).unwrap_or_default();
        let (read, unary) = (calls::reads(path), calls::is_unary(path));
        let asked = Asked {
            fields: self.fields.of_call(&self.ip, self.proxy.id.as_bytes()),
            read,
            unary,
        };
        let call = Call::new(&self.proxy, &self.session, stream, asked);
        let owner = Owner::Client(Arc::clone(&call));
        self.session.accept(stream, owner, end);
        if self.proxy.config.mode == Mode::ReadOnly && !read {
            call.forbid();
        } else if self.fields.seen_before {
            call.refuse(Refusal::Loop);
        } else {
            call.begin(end);
        }
    }

    /// The client gives a request up.
    fn reset(&mut self, stream: u32) -> Result<(), Fault> {
        let Some(owner) = self.session.was_reset(stream) else {
            return Ok(());
        };
        cancel(&owner);
        if !matches!(&owner, Owner::Client(call) if call.age() < AT_ONCE) {
            return Ok(());
        }
        let (resets, since) = &mut self.resets;
        if RESETS_PERIOD < since.elapsed() {
            (*resets, *since) = (0, Instant::now());
        }
        *resets += 1;
        match *resets <= RESETS_MAX {
            true => Ok(()),
            false => Err(Fault::new(Code::ENHANCE_YOUR_CALM, "too many resets")),
        }
    }

    fn other(&mut self, stream: u32, end: bool) {
        let Some(parts) = self.fields.of_other() else {
            return self.refuse(stream, Code::PROTOCOL_ERROR);
        };
        let other = Other::new(&self.proxy, &self.session, stream, self.address, parts);
        let owner = Owner::Other(Arc::clone(&other));
        self.session.accept(stream, owner, end);
        if end {
            other.data(&[], true);
        }
    }

    fn data(&self, stream: u32, end: bool, data: &[u8], flow: u32) -> Result<(), Fault> {
        if self.last < stream && self.session.is_open() {
            return Err(Fault::protocol("data of a request that has not begun"));
        }
        let owner = self.session.received(stream, flow, end)?;
        let padding = flow as usize - data.len();
        if 0 < padding {
            self.session.consumed(stream, padding);
        }
        match owner {
            Some(Owner::Client(call)) => call.data(data, end),
            Some(Owner::Other(other)) => other.data(data, end),
            Some(Owner::Member(_)) | None => {}
        }
        Ok(())
    }
}

impl Side for Client {
    fn session(&self) -> &Arc<Session> {
        &self.session
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Headers { stream, end, block } => self.headers(stream, end, block),
            Event::Data {
                stream,
                end,
                data,
                flow,
            } => self.data(stream, end, data, flow),
            Event::Reset { stream, .. } => self.reset(stream),
            Event::Pong(LAST_PING) => {
                let last = self.last;
                self.session
                    .put(|out| frame::put_goaway(out, last, Code::NO_ERROR, ""));
                self.session.close_gently();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn last_stream(&self) -> u32 {
        self.last
    }

    fn patience(&self) -> Option<(Duration, Duration)> {
        self.keepalive
    }
}

/// The bytes of names, in lower case, and of values: RFC 9110, 5.
const NAME: [bool; 256] = table(false);
const VALUE: [bool; 256] = table(true);

const fn table(of_values: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let one = byte as u8;
        table[byte] = match of_values {
            true => one == b'\t' || 0x20 <= one && one != 0x7f,
            false => is_token(one) && !one.is_ascii_uppercase(),
        };
        byte += 1;
    }
    table
}

const fn is_token(byte: u8) -> bool {
    let mark = matches!(
        byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
    );
    let other_mark = matches!(byte, b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
    mark || other_mark || byte.is_ascii_alphanumeric()
}

/// A request's fields as they come.
#[derive(Default)]
struct Fields {
    /// As they go to a member: `:path`, and those that are for it.
    block: BytesMut,
    method: Vec<u8>,
    path: Vec<u8>,
    authority: Vec<u8>,
    /// Who is named as having forwarded it.
    forwarded: Vec<u8>,
    grpc: bool,
    /// It names this proxy.
    seen_before: bool,
    /// A field that is no pseudo-field has come.
    regular: bool,
    malformed: bool,
}

impl Fields {
    fn clear(&mut self) {
        let Fields {
            block,
            method,
            path,
            authority,
            forwarded,
            ..
        } = self;
        block.clear();
        for kept in [method, path, authority, forwarded] {
            kept.clear();
        }
        self.grpc = false;
        self.seen_before = false;
        self.regular = false;
        self.malformed = false;
    }

    fn add(&mut self, id: &[u8], name: &[u8], value: &[u8], sensitive: bool) {
        // A member may end its connection, which others use too, over what HTTP does not allow.
        self.malformed |= !value.iter().all(|byte| VALUE[usize::from(*byte)]);
        if name.first() == Some(&b':') {
            self.pseudo(name, value);
            return;
        }
        self.regular = true;
        self.malformed |= name.is_empty() || !name.iter().all(|byte| NAME[usize::from(*byte)]);
        match name {
            b"content-type" => self.grpc = value.starts_with(b"application/grpc"),
            FORWARDED_FOR => {
                self.forwarded.extend_from_slice(value);
                self.forwarded.extend_from_slice(b", ");
                return;
            }
            _ if name == PROXIED_BY.as_str().as_bytes() => self.seen_before |= value == id,
            // Nobody needs it here, and members end connections over one that is wrong.
            b"content-length" => return,
            _ if is_hop_by_hop(name) => return,
            _ => {}
        }
        hpack::put_field(&mut self.block, name, value, sensitive);
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        let place = match name {
            b":method" => &mut self.method,
            b":authority" => &mut self.authority,
            b":path" => {
                self.malformed |=
                    !value.starts_with(b"/") || PathAndQuery::try_from(value).is_err();
                hpack::put_field(&mut self.block, name, value, false);
                &mut self.path
            }
            b":scheme" => return,
            _ => {
                self.malformed = true;
                return;
            }
        };
        // Once, and before all others.
        self.malformed |= self.regular || !place.is_empty();
        place.extend_from_slice(value);
    }

    fn are_well_formed(&self) -> bool {
        let endless = self.is_call() && PATH_BYTES_MAX < self.path.len();
        !self.malformed && !self.path.is_empty() && !endless
    }

    fn is_call(&self) -> bool {
        self.grpc && self.method == b"POST"
    }

    /// With what a proxy adds.
    fn of_call(&mut self, ip: &str, id: &[u8]) -> bytes::Bytes {
        let block = &mut self.block;
        hpack::put_field(block, b"te", b"trailers", false);
        self.forwarded.extend_from_slice(ip.as_bytes());
        hpack::put_field(block, FORWARDED_FOR, &self.forwarded, false);
        hpack::put_field(block, PROXIED_BY.as_str().as_bytes(), id, false);
        bytes::Bytes::copy_from_slice(block)
    }

    fn of_other(&mut self) -> Option<http::request::Parts> {
        if !self.forwarded.is_empty() {
            let forwarded = self.forwarded.strip_suffix(b", ").unwrap_or_default();
            hpack::put_field(&mut self.block, FORWARDED_FOR, forwarded, false);
        }
        other::parts(&self.block, &self.method, &self.authority)
    }
}
