//! A connection to a member, which the calls of many clients share.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use keelson_port::hpack::{self, DecodeError, Decoder};
use keelson_port::{Protocol, Wire};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::debug;

use super::driver::{Driver, Side};
use super::frame::{self, Code, Event, Fault, PREFACE, WINDOW, WINDOW_MAX, setting};
use super::session::{End, Owner, Session};
use crate::address::Address;
use crate::http1::exchange::Failure;
use crate::http1::headers;
use crate::policy::endpoint::{Endpoint, Health};
use crate::sockets::Http2Permit;

/// A stream that its client does not read holds up to so much of a connection's window...
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// ...and must not hold up the others: as large as a window may be.
const CONNECTION_WINDOW_BYTES: u32 = WINDOW_MAX as u32;

/// Of one answer's fields.
const FIELDS_BYTES_MAX: usize = 64 * 1024;

/// Of the compression, in bytes: what is used when nobody says anything.
const TABLE_BYTES: usize = 4096;

/// A member that is gone without a word is noticed while calls wait. Seldom enough for etcd, which
/// closes connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks while answers are awaited; after this long an answer takes long.
const LOOK: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(200);

/// A socket to a member, with TLS if that is its scheme.
pub(super) async fn socket(address: &Address, timeout: Duration) -> io::Result<Box<dyn Wire>> {
    let socket = address.connect(timeout).await?;
    let Some(tls) = address.tls() else {
        return Ok(Box::new(socket));
    };
    let shaking = tls.connect(address.host(), Protocol::Http2, socket);
    Ok(Box::new(shaking.await?))
}

/// With all that is said first.
pub(super) fn session(address: &Address) -> Session {
    let mut prefix = BytesMut::with_capacity(64);
    let authority = address.to_string();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", address.scheme()),
        (":authority", &authority),
    ] {
        hpack::put_field(&mut prefix, name.as_bytes(), value.as_bytes(), false);
    }
    let windows = [STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES];
    let session = Session::new(End::Client, windows, prefix.freeze());
    session.put(|out| {
        out.extend_from_slice(PREFACE);
        frame::put_settings(
            out,
            &[
                (setting::ENABLE_PUSH, 0),
                (setting::INITIAL_WINDOW, STREAM_WINDOW_BYTES),
                (setting::FIELDS_BYTES_MAX, FIELDS_BYTES_MAX as u32),
            ],
        );
        frame::put_window(out, 0, CONNECTION_WINDOW_BYTES - WINDOW);
    });
    session
}

/// Runs a connection to its end, in a task of its own. It has its place until then, and may be cut.
pub(super) fn spawn(
    endpoint: &Arc<Endpoint>,
    session: &Arc<Session>,
    socket: Box<dyn Wire>,
    (place, cut): (Http2Permit, oneshot::Receiver<()>),
) {
    let member = Member {
        session: Arc::clone(session),
        endpoint: Arc::downgrade(endpoint),
        decoder: Decoder::new(TABLE_BYTES),
        block: BytesMut::new(),
    };
    let secure = endpoint.address.tls().is_some();
    tokio::spawn(async move {
        member.live(socket, secure, cut).await;
        drop(place);
    });
}

/// Our end of a connection to a member.
struct Member {
    session: Arc<Session>,
    endpoint: Weak<Endpoint>,
    decoder: Decoder,
    /// Fields as they go to a client; empty.
    block: BytesMut,
}

impl Member {
    async fn live(self, socket: Box<dyn Wire>, secure: bool, cut: oneshot::Receiver<()>) {
        let mut driver = Driver::new(socket, self, false, secure);
        let ended = tokio::select! {
            biased;
            ended = std::future::poll_fn(|cx| driver.poll(cx)) => Some(ended),
            // Without the other half it is never cut.
            Ok(()) = cut => None,
        };
        if let Some(Err(error)) = &ended {
            debug!(%error, "an HTTP/2 connection to a member ended");
        }
        for (owner, unsent) in driver.side.session.close() {
            if let Owner::Member(call) = owner {
                call.failed(failure(ended.as_ref(), unsent));
            }
        }
    }

    fn headers(&mut self, stream: u32, end: bool, block: &[u8]) -> Result<(), Fault> {
        let passed_on = &mut self.block;
        passed_on.clear();
        let mut status = None;
        let decoded = self
            .decoder
            .decode(block, FIELDS_BYTES_MAX, |name, value, sensitive| {
                match name {
                    b":status" => status = StatusCode::from_bytes(value).ok(),
                    _ if is_hop_by_hop(name) => return,
                    _ => {}
                }
                hpack::put_field(passed_on, name, value, sensitive);
            });
        match decoded {
            Ok(()) => {}
            Err(DecodeError::Malformed) => {
                return Err(Fault::new(Code::COMPRESSION_ERROR, "malformed fields"));
            }
            Err(DecodeError::TooLarge) => {
                self.break_off(stream, Code::CANCEL);
                return Ok(());
            }
        }
        if status.is_some_and(|status| status.is_informational()) {
            return Ok(());
        }
        if let Some(Owner::Member(call)) = self.session.answers(stream) {
            call.fields(passed_on, status.unwrap_or(StatusCode::OK), end);
        }
        if end {
            self.session.answered(stream);
        }
        Ok(())
    }

    /// An answer cannot be passed on.
    fn break_off(&self, stream: u32, code: Code) {
        if let Some(Owner::Member(call)) = self.session.break_off(stream, code) {
            call.broke_off();
        }
    }

    fn data(&mut self, stream: u32, end: bool, data: &[u8], flow: u32) -> Result<(), Fault> {
        let Some(Owner::Member(call)) = self.session.received(stream, flow, end)? else {
            return Ok(());
        };
        let gone = call.answer(data, end);
        let padding = flow as usize - data.len();
        self.session.consumed(stream, gone + padding);
        if end {
            self.session.answered(stream);
        }
        Ok(())
    }
}

/// What the end of a connection is to a call; `None`: it was cut. `unsent`: the member has got nothing of
/// the call.
fn failure(ended: Option<&io::Result<()>>, unsent: bool) -> Failure {
    let kind = |ended: &io::Result<()>| match ended {
        Ok(()) => io::ErrorKind::NotConnected,
        Err(error) => error.kind(),
    };
    match (ended.map(kind), unsent) {
        (Some(kind), true) => Failure::Unsent(kind.into()),
        (Some(kind), false) => Failure::Unanswered(kind.into()),
        (None, unsent) => Failure::Cut { unsent },
    }
}

/// Fields that concern one connection; HTTP/2 has none, but some senders do not know it.
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    name == b"host" || std::str::from_utf8(name).is_ok_and(headers::is_hop_by_hop_name)
}

impl Drop for Member {
    /// A task that is aborted must not leave a circle of calls and connections behind.
    fn drop(&mut self) {
        drop(self.session.close());
    }
}

impl Side for Member {
    fn session(&self) -> &Arc<Session> {
        &self.session
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Headers { stream, end, block } => self.headers(stream, end, block)?,
            Event::Data {
                stream,
                end,
                data,
                flow,
            } => self.data(stream, end, data, flow)?,
            Event::Reset { stream, code } => {
                if let Some(Owner::Member(call)) = self.session.was_reset(stream) {
                    match code {
                        // RFC 9113, 8.7: nothing was done.
                        Code::REFUSED_STREAM => {
                            let refused = io::ErrorKind::ConnectionRefused;
                            call.failed(Failure::Unsent(refused.into()));
                        }
                        _ => call.broke_off(),
                    }
                }
            }
            Event::Broken { stream } => self.break_off(stream, Code::PROTOCOL_ERROR),
            Event::GoAway { last, code } => {
                debug!(code = code.0, "a member says goodbye");
                for owner in self.session.went_away(last) {
                    if let Owner::Member(call) = owner {
                        call.failed(Failure::Unsent(io::ErrorKind::ConnectionRefused.into()));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn last_stream(&self) -> u32 {
        0
    }

    fn pause(&self) -> Option<Duration> {
        self.session.awaits().then_some(LOOK)
    }

    /// A member with calls that take long is suspected; reads leave one that turns out to be gone.
    fn look(&mut self) -> Result<(), Fault> {
        let Some(then) = Instant::now().checked_sub(LONG) else {
            return Ok(());
        };
        let overdue = self.session.awaiting_since(then);
        let Some(endpoint) = self.endpoint.upgrade().filter(|_| !overdue.is_empty()) else {
            return Ok(());
        };
        endpoint.wake_health_check();
        if matches!(endpoint.health(), Health::Healthy | Health::Degraded) {
            return Ok(());
        }
        for (stream, owner) in overdue {
            if let Owner::Member(call) = owner {
                call.leave(&self.session, stream);
            }
        }
        Ok(())
    }

    fn patience(&self) -> Option<(Duration, Duration)> {
        (0 < self.session.streams()).then_some((PING_INTERVAL, PING_TIMEOUT))
    }
}
