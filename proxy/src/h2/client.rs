//! A client's HTTP/2 connection: its requests become calls, or are forwarded over HTTP/1.1.

mod requests;
mod resets;

use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keelson_port::hpack::Decoder;
use keelson_port::{Http2Connection, Limits};
use tokio::time::Instant;
use tracing::debug;

use self::resets::{RESETS_MAX, UNDER_WAY_MAX};
use super::burst::{AT_ONCE, Burst};
use super::driver::{Driver, Side};
use super::fields::Fields;
use super::frame::{self, Code, Event, Fault, WINDOW, setting};
use super::lengths::Lengths;
use super::session::{End, Owner, Session};
use crate::context::Context;

/// What a client may send on a stream before it is let in again, and in all.
const STREAM_WINDOW_BYTES: u32 = WINDOW;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

const TABLE_BYTES: usize = 4096;

/// Between two looks at what takes too long.
const LOOK: Duration = Duration::from_millis(10);

/// Sent with the first goodbye; when it comes back, all that was on its way before it has come.
const LAST_PING: [u8; 8] = *b"goodbye?";
const NO_LAST: u32 = (1 << 31) - 1;

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
    /// However the connection ends, its requests end with it.
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
    proxy: Arc<Context>,
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
    fn new(proxy: Arc<Context>, (address, secure): (SocketAddr, bool), limits: &Limits) -> Client {
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
