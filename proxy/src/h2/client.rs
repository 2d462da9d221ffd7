//! A client's HTTP/2 connection. gRPC requests become calls, others are forwarded over HTTP/1.1.

mod requests;
mod resets;

use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keelson_port::Limits;
use keelson_port::hpack::Decoder;
use keelson_port::http2::frame::{
    self, ConnectionError, DEFAULT_WINDOW, ErrorCode, Frame, setting,
};
use keelson_port::http2::{ContentLengths, Driver, Handler, Http2Connection, RateLimit};
use tokio::time::Instant;
use tracing::debug;

use self::resets::{EARLY, RESETS_MAX, UNDER_WAY_MAX};
use super::fields::Fields;
use super::owner::{ClientSession, Owner, Session};
use crate::context::Context;

/// The receive windows: of a stream, and of the connection.
const STREAM_WINDOW_BYTES: u32 = DEFAULT_WINDOW;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

const TABLE_BYTES: usize = 4096;

/// The shortest pause between two searches for overdue calls.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Sent after the first GOAWAY (RFC 9113, 6.8). With its acknowledgement all streams that the
/// client began before it have arrived.
const DRAIN_PING: [u8; 8] = *b"goodbye?";
const MAX_STREAM_ID: u32 = (1 << 31) - 1;

/// Serves a connection to its end.
pub(crate) async fn serve(proxy: Arc<Context>, connection: Http2Connection<'_>) {
    let Http2Connection {
        socket,
        client,
        secure,
        limits,
        mut shutdown,
    } = connection;
    let client = Client::new(proxy, (client, secure), limits);
    let mut driver = Driver::new(socket, client, true, false);
    let mut draining = false;
    let ended = std::future::poll_fn(|cx| {
        if !draining && Pin::new(&mut shutdown).poll(cx).is_ready() {
            draining = true;
            driver.handler.start_drain();
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
        Owner::Http(other) => other.cancel(),
    }
}

impl Drop for Client {
    /// The requests end with the connection.
    fn drop(&mut self) {
        for (owner, _) in self.session.close() {
            cancel(&owner);
        }
        if let Some(lane) = self.session.quota.lane() {
            for endpoint in self.proxy.endpoints.list() {
                endpoint.link.leave(lane);
            }
        }
    }
}

/// The handler of a client's connection.
struct Client {
    proxy: Arc<Context>,
    session: Arc<ClientSession>,
    decoder: Decoder,
    address: SocketAddr,
    /// The connection is TLS, which has proven the host name.
    secure: bool,
    /// The client's IP address as text.
    ip: Box<str>,
    /// The highest stream that was processed.
    last_stream: u32,
    /// The idle streams below it, which are closed (RFC 9113, 5.1.1).
    skipped: Range<u32>,
    /// The bodies with a `content-length`.
    lengths: ContentLengths,
    streams_max: usize,
    fields_bytes_max: usize,
    keepalive: Option<(Duration, Duration)>,
    /// Calls that were reset right after their start.
    reset_early: RateLimit,
    /// All resets, and all refused streams.
    resets: RateLimit,
    resets_max: u32,
    /// The earliest deadline of a call.
    due: Option<Instant>,
    fields: Fields,
}

impl Client {
    fn new(proxy: Arc<Context>, (address, secure): (SocketAddr, bool), limits: &Limits) -> Client {
        let windows = [STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES];
        let session = ClientSession::new(windows);
        let fields_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
        session.put(|out| {
            let settings = [
                (setting::MAX_HEADER_LIST_SIZE, fields_bytes_max),
                (
                    setting::MAX_CONCURRENT_STREAMS,
                    limits.concurrent_streams_max,
                ),
            ];
            let unlimited = limits.concurrent_streams_max == u32::MAX;
            frame::put_settings(out, &settings[..2 - usize::from(unlimited)]);
            frame::put_window_update(out, 0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW);
        });
        let keepalive = limits.keepalive_interval;
        Client {
            proxy,
            session: Arc::new(session),
            decoder: Decoder::new(TABLE_BYTES),
            address,
            secure,
            ip: address.ip().to_canonical().to_string().into(),
            last_stream: 0,
            skipped: 0..0,
            lengths: ContentLengths::default(),
            streams_max: usize::try_from(limits.concurrent_streams_max).unwrap_or(usize::MAX),
            fields_bytes_max: limits.head_bytes_max,
            keepalive: keepalive.map(|interval| (interval, limits.keepalive_timeout)),
            reset_early: RateLimit::default(),
            resets: RateLimit::default(),
            resets_max: RESETS_MAX + limits.concurrent_streams_max.min(UNDER_WAY_MAX),
            due: None,
            fields: Fields::default(),
        }
    }

    /// Begins a graceful shutdown: requests that are in flight are still served.
    fn start_drain(&mut self) {
        self.session.put(|out| {
            frame::put_goaway(out, MAX_STREAM_ID, ErrorCode::NO_ERROR, "");
            frame::put_ping(out, DRAIN_PING, false);
        });
    }
}

impl Handler for Client {
    type Owner = Owner;

    fn session(&self) -> &Session {
        &self.session
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), ConnectionError> {
        match frame {
            Frame::Headers { stream, end, block } => self.headers(stream, end, block),
            Frame::Data {
                stream,
                end,
                data,
                flow_controlled_len,
            } => self.data(stream, end, data, flow_controlled_len),
            Frame::RstStream { stream, .. } => self.reset(stream),
            Frame::StreamError { stream } if self.is_idle(stream) => Err(
                ConnectionError::protocol("a stream is broken that has not begun"),
            ),
            Frame::StreamError { stream } => self.reset_with_error(stream),
            Frame::PingAck(DRAIN_PING) => {
                let last = self.last_stream;
                self.session
                    .put(|out| frame::put_goaway(out, last, ErrorCode::NO_ERROR, ""));
                self.session.shut_down();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Whether the stream is idle (RFC 9113, 5.1). After GOAWAY none is, as new streams are
    /// ignored.
    fn is_idle(&self, stream: u32) -> bool {
        self.last_stream < stream && self.session.is_open()
    }

    fn next_check(&self) -> Option<Duration> {
        let due = self.due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Ends the calls whose deadline has passed.
    fn check(&mut self) -> Result<(), ConnectionError> {
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        let (overdue, next) = self.session.overdue(now);
        self.due = next.map(|next| next.max(now + CHECK_INTERVAL));
        for owner in overdue {
            if let Owner::Client(call) = owner {
                call.expire();
                self.count_early_end(call.age() < EARLY)?;
            }
        }
        Ok(())
    }

    fn keepalive(&self) -> Option<(Duration, Duration)> {
        self.keepalive
    }
}
