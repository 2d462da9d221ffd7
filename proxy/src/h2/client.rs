//! A client's HTTP/2 connection: its requests become calls, or are forwarded over HTTP/1.1.

use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use keelson_port::hpack::{self, DecodeError, Decoder};
use keelson_port::{Limits, Multiplexed};
use tokio::time::Instant;
use tracing::debug;

use super::burst::{AT_ONCE, Burst};
use super::call::{Asked, Call};
use super::driver::{Driver, Side};
use super::fields::Fields;
use super::frame::{self, Code, Event, Fault, WINDOW, setting};
use super::lengths::Lengths;
use super::other::Other;
use super::session::{End, Owner, Session};
use crate::answers::Refusal;
use crate::body::AnswerBody;
use crate::calls;
use crate::mode::Mode;
use crate::proxy::Proxy;

/// What a client may send on a stream before it is let in again, and in all.
const STREAM_WINDOW_BYTES: u32 = WINDOW;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

const TABLE_BYTES: usize = 4096;

/// Between two looks at what takes too long.
const LOOK: Duration = Duration::from_millis(10);

/// Calls that a client may give up at once, a second. Of any age it may give up all that are under way
/// besides: that many end together is what happens when a member dies.
const RESETS_MAX: u32 = 2000;
const UNDER_WAY_MAX: u32 = 20_000;

/// Sent with the first goodbye; when it comes back, all that was on its way before it has come.
const LAST_PING: [u8; 8] = *b"goodbye?";
const NO_LAST: u32 = (1 << 31) - 1;

const TOO_MANY_RESETS: Fault = Fault {
    code: Code::ENHANCE_YOUR_CALM,
    what: "too many resets",
};

/// Serves a connection to its end.
pub(crate) async fn serve(proxy: Arc<Proxy>, connection: Multiplexed<'_>) {
    let Multiplexed {
        socket,
        client,
        secure,
        limits,
        mut begun,
    } = connection;
    let client = Client::new(proxy, (client, secure), limits);
    let mut driver = Driver::new(socket, client, true, false);
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
        if let Some(lane) = self.session.share.lane() {
            for endpoint in self.proxy.endpoints.list() {
                endpoint.link.leave(lane);
            }
        }
    }
}

/// Our end of a client's connection.
struct Client {
    proxy: Arc<Proxy>,
    session: Arc<Session>,
    decoder: Decoder,
    address: SocketAddr,
    /// It is TLS, which has proven the name that the client calls us by.
    secure: bool,
    /// The same as text, without the port.
    ip: Box<str>,
    /// The last stream that was looked at.
    last: u32,
    /// Those before it that were passed over and cannot begin any more.
    skipped: Range<u32>,
    /// Of bodies whose length was said.
    lengths: Lengths,
    streams_max: usize,
    fields_bytes_max: usize,
    keepalive: Option<(Duration, Duration)>,
    /// Calls that ended before their answers, at once.
    young: Burst,
    /// All that did so at any age, and all that were one too many.
    resets: Burst,
    resets_max: u32,
    /// When the first call may have taken too long.
    due: Option<Instant>,
    fields: Fields,
}

impl Client {
    fn new(proxy: Arc<Proxy>, (address, secure): (SocketAddr, bool), limits: &Limits) -> Client {
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
            secure,
            ip: address.ip().to_canonical().to_string().into(),
            last: 0,
            skipped: 0..0,
            lengths: Lengths::default(),
            streams_max: usize::try_from(limits.concurrent_streams_max).unwrap_or(usize::MAX),
            fields_bytes_max: limits.head_bytes_max,
            keepalive: keepalive.map(|interval| (interval, limits.keepalive_timeout)),
            young: Burst::default(),
            resets: Burst::default(),
            resets_max: RESETS_MAX + limits.concurrent_streams_max.min(UNDER_WAY_MAX),
            due: None,
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
        if self.skipped.contains(&stream) {
            return Err(Fault::protocol("a stream begins after a later one"));
        }
        if stream <= self.last {
            if decoded.is_ok() && !self.fields.are_trailers() {
                return self.break_off(stream);
            }
            return self.trailers(stream, end);
        }
        if stream.is_multiple_of(2) {
            return Err(Fault::protocol("a client's streams have odd numbers"));
        }
        if !self.session.is_open() {
            // It was told; it asks somebody else.
            return Ok(());
        }
        self.skipped = self.last + 1..stream;
        self.last = stream;
        let length = self.fields.length.filter(|_| decoded.is_ok());
        if self.streams_max <= self.session.streams() {
            self.refuse(stream, Code::REFUSED_STREAM);
            return self.count_reset();
        } else if decoded.is_err() {
            self.answer(stream, end, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        } else if !self.fields.are_well_formed() || end && length.is_some_and(|one| one != 0) {
            self.refuse(stream, Code::PROTOCOL_ERROR);
        } else if self.fields.is_call() {
            self.call(stream, end);
        } else {
            self.other(stream, end);
        }
        if let Some(length) = length.filter(|_| !end) {
            let streams = self.session.streams();
            self.lengths
                .keep(2 * streams, |stream| self.session.has(stream));
            self.lengths.begin(stream, length);
        }
        Ok(())
    }

    /// Ends a request over what came of it.
    fn break_off(&mut self, stream: u32) -> Result<(), Fault> {
        self.lengths.forget(stream);
        match self.session.break_off(stream, Code::PROTOCOL_ERROR) {
            Some(owner) => self.given_up(&owner),
            None => Ok(()),
        }
    }

    fn refuse(&self, stream: u32, code: Code) {
        self.session.put(|out| frame::put_reset(out, stream, code));
    }

    /// Answers with a status alone; nothing was done.
    fn answer(&self, stream: u32, end: bool, status: StatusCode) {
        let mut block = BytesMut::new();
        hpack::put_field(&mut block, b":status", status.as_str().as_bytes(), false);
        self.session.put(|out| {
            frame::put_headers(out, stream, [&block, &[]], true);
            if !end {
                frame::put_reset(out, stream, Code::NO_ERROR);
            }
        });
    }

    /// What ends a request is of no interest to anybody, but that it ends is.
    fn trailers(&mut self, stream: u32, end: bool) -> Result<(), Fault> {
        match end {
            true => self.data(stream, true, &[], 0),
            false => Err(Fault::protocol("fields in the middle of a request")),
        }
    }

    fn call(&mut self, stream: u32, end: bool) {
        let path = std::str::from_utf8(&self.fields.path).unwrap_or_default();
        let kind = calls::Kind::of(path);
        let asked = Asked {
            fields: self.fields.of_call(&self.ip, self.proxy.id.as_bytes()),
            kind,
            patience: self.fields.patience,
        };
        let call = Call::new(&self.proxy, &self.session, stream, asked);
        let owner = Owner::Client(Arc::clone(&call));
        self.session.accept(stream, owner, end);
        if !call.take_room() {
            return;
        }
        self.due = self.due.into_iter().chain(call.due(end)).min();
        if self.proxy.config.mode == Mode::ReadOnly && !kind.read {
            call.forbid();
        } else if self.fields.seen_before {
            call.refuse(Refusal::Loop);
        } else {
            call.begin(end);
        }
    }

    /// The client gives a request up.
    fn reset(&mut self, stream: u32) -> Result<(), Fault> {
        if self.is_idle(stream) {
            return Err(Fault::protocol("a stream is reset that has not begun"));
        }
        self.lengths.forget(stream);
        match self.session.was_reset(stream) {
            Some(owner) => self.given_up(&owner),
            None => Ok(()),
        }
    }

    /// A request has ended before its answer, whichever end has reset it (CVE-2023-44487, CVE-2025-8671).
    fn given_up(&mut self, owner: &Owner) -> Result<(), Fault> {
        cancel(owner);
        let at_once = matches!(owner, Owner::Client(call) if call.age() < AT_ONCE);
        self.count_given_up(at_once)
    }

    fn count_given_up(&mut self, at_once: bool) -> Result<(), Fault> {
        self.session.share.reset();
        if at_once && self.young.exceeds(RESETS_MAX) {
            return Err(TOO_MANY_RESETS);
        }
        self.count_reset()
    }

    fn count_reset(&mut self) -> Result<(), Fault> {
        match self.resets.exceeds(self.resets_max) {
            false => Ok(()),
            true => Err(TOO_MANY_RESETS),
        }
    }

    fn other(&mut self, stream: u32, end: bool) {
        let bytes = self.fields.bytes();
        let Some(parts) = self.fields.of_other() else {
            return self.refuse(stream, Code::PROTOCOL_ERROR);
        };
        let access = &self.proxy.config.limits.access;
        let misdirected = access.misdirected(&parts).filter(|_| !self.secure);
        let head = (parts, bytes);
        let Some(other) = Other::new(&self.proxy, &self.session, stream, self.address, head) else {
            return self.answer(stream, end, StatusCode::SERVICE_UNAVAILABLE);
        };
        let owner = Owner::Other(Arc::clone(&other));
        self.session.accept(stream, owner, end);
        match misdirected {
            Some(refused) => other.refuse(refused.map(AnswerBody::Whole)),
            None => other.data(&[], end),
        }
    }

    fn data(&mut self, stream: u32, end: bool, data: &[u8], flow: u32) -> Result<(), Fault> {
        if self.is_idle(stream) {
            return Err(Fault::protocol("data of a request that has not begun"));
        }
        let owner = self.session.received(stream, flow, end)?;
        let padding = flow as usize - data.len();
        if 0 < padding {
            self.session.consumed(stream, padding);
        }
        if !self.lengths.are_kept(stream, data.len(), end) {
            return self.break_off(stream);
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
            Event::Broken { stream } if self.is_idle(stream) => {
                Err(Fault::protocol("a stream is broken that has not begun"))
            }
            Event::Broken { stream } => self.break_off(stream),
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

    /// Whether the stream is idle (RFC 9113, 5.1). After GOAWAY none is: new streams are ignored.
    fn is_idle(&self, stream: u32) -> bool {
        self.last < stream && self.session.is_open()
    }

    fn pause(&self) -> Option<Duration> {
        let due = self.due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Ends the calls that have taken too long.
    fn look(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        let (overdue, next) = self.session.overdue(now);
        self.due = next.map(|next| next.max(now + LOOK));
        for call in overdue {
            call.expire();
            self.count_given_up(call.age() < AT_ONCE)?;
        }
        Ok(())
    }

    fn patience(&self) -> Option<(Duration, Duration)> {
        self.keepalive
    }
}
