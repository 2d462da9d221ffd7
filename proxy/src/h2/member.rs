//! A connection to a member, shared by the calls of many clients.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use keelson_port::hpack::{self, DecodeError, Decoder};
use keelson_port::http2::frame::{
    self, ConnectionError, DEFAULT_WINDOW, ErrorCode, Frame, MAX_WINDOW, PREFACE, setting,
};
use keelson_port::http2::{Driver, Handler, Role};
use keelson_port::{Protocol, Wire};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::debug;

use super::call::AnswerStatus;
use super::owner::{Owner, Session};
use crate::address::Address;
use crate::http1::exchange::Failure;
use crate::http1::headers;
use crate::policy::endpoint::{Endpoint, Health};
use crate::sockets::Http2Permit;

/// The receive window of a stream. An answer that its client does not read holds so much of the
/// connection's window...
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// ...which therefore has the largest size.
const CONNECTION_WINDOW_BYTES: u32 = MAX_WINDOW as u32;

/// The bound of one field section of an answer.
const MAX_HEADER_LIST_SIZE: usize = 64 * 1024;

/// The default SETTINGS_HEADER_TABLE_SIZE, in bytes.
const TABLE_BYTES: usize = 4096;

/// The keepalive detects a member that vanished while calls wait. etcd closes connections with more
/// than one PING in 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval of checks while answers are awaited, and the time after which an answer is slow.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(200);

/// gRPC's code of a server that cannot go on, and etcd's text of a member without a leader,
/// `ErrGRPCNoLeader`, as grpc-go and tonic encode it.
const UNAVAILABLE: &[u8] = b"14";
const NO_LEADER: [&[u8]; 2] = [b"etcdserver: no leader", b"etcdserver:%20no%20leader"];

/// While there are streams, the interval of looks at the member's health. Long-lived streams leave
/// a member that is not usable for so long: its connection may be the last to fail.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A socket to a member, with TLS if that is its scheme.
pub(super) async fn socket(address: &Address, timeout: Duration) -> io::Result<Box<dyn Wire>> {
    let socket = address.connect(timeout).await?;
    let Some(tls) = address.tls() else {
        return Ok(Box::new(socket));
    };
    let shaking = tls.connect(address.host(), Protocol::Http2, socket);
    Ok(Box::new(shaking.await?))
}

/// A session with the preface and the first frames in its buffer.
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
    let session = Session::new(Role::Client, windows, prefix.freeze());
    session.put(|out| {
        out.extend_from_slice(PREFACE);
        frame::put_settings(
            out,
            &[
                (setting::ENABLE_PUSH, 0),
                (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
                (setting::MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST_SIZE as u32),
            ],
        );
        frame::put_window_update(out, 0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW);
    });
    session
}

/// Spawns the task of a connection. It keeps its slot until its end, and `cut` ends it.
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
        lost: None,
    };
    let secure = endpoint.address.tls().is_some();
    tokio::spawn(async move {
        member.run(socket, secure, cut).await;
        drop(place);
    });
}

/// The handler of a connection to a member.
struct Member {
    session: Arc<Session>,
    endpoint: Weak<Endpoint>,
    decoder: Decoder,
    /// A buffer for field blocks to clients.
    block: BytesMut,
    /// Since when the member is not usable.
    lost: Option<Instant>,
}

impl Member {
    async fn run(self, socket: Box<dyn Wire>, secure: bool, cut: oneshot::Receiver<()>) {
        let mut driver = Driver::new(socket, self, false, secure);
        let ended = tokio::select! {
            biased;
            ended = std::future::poll_fn(|cx| driver.poll(cx)) => Some(ended),
            // A dropped sender never cuts.
            Ok(()) = cut => None,
        };
        if let Some(Err(error)) = &ended {
            debug!(%error, "an HTTP/2 connection to a member ended");
        }
        for (owner, unsent) in driver.handler.session.close() {
            if let Owner::Member(call) = owner {
                call.failed(failure(ended.as_ref(), unsent));
            }
        }
    }

    fn headers(&mut self, stream: u32, end: bool, block: &[u8]) -> Result<(), ConnectionError> {
        let passed_on = &mut self.block;
        passed_on.clear();
        let (mut status, mut unavailable, mut no_leader) = (None, false, false);
        let decoded = self
            .decoder
            .decode(block, MAX_HEADER_LIST_SIZE, |name, value, sensitive| {
                match name {
                    b":status" => status = StatusCode::from_bytes(value).ok(),
                    b"grpc-status" => unavailable = value == UNAVAILABLE,
                    b"grpc-message" => no_leader = NO_LEADER.contains(&value),
                    _ if is_hop_by_hop(name) => return,
                    _ => {}
                }
                hpack::put_field(passed_on, name, value, sensitive);
            });
        match decoded {
            Ok(()) => {}
            Err(DecodeError::Malformed) => {
                return Err(ConnectionError::new(
                    ErrorCode::COMPRESSION_ERROR,
                    "malformed fields",
                ));
            }
            Err(DecodeError::TooLarge) => {
                self.reset_with_error(stream, ErrorCode::CANCEL);
                return Ok(());
            }
        }
        if status.is_some_and(|status| status.is_informational()) {
            return Ok(());
        }
        if let Some(Owner::Member(call)) = self.session.recv_headers(stream) {
            let status = AnswerStatus {
                http: status.unwrap_or(StatusCode::OK),
                // Its client has requested this end (`WithRequireLeader`).
                unavailable: unavailable && !no_leader,
                no_leader: unavailable && no_leader,
            };
            call.fields(passed_on, status, end);
        }
        if end {
            self.session.answered(stream);
        }
        Ok(())
    }

    /// Continues streams on other members once this one is not usable.
    fn leave_lost(&mut self) {
        let is_lost = self.endpoint.upgrade().is_some_and(|one| one.is_lost());
        if !is_lost {
            self.lost = None;
            return;
        }
        let since = *self.lost.get_or_insert_with(Instant::now);
        if since.elapsed() < LOOK_INTERVAL {
            return;
        }
        for (stream, owner) in self.session.owners() {
            if let Owner::Member(call) = owner {
                call.leave_lost(&self.session, stream);
            }
        }
    }

    /// Resets the stream of an answer that cannot be forwarded.
    fn reset_with_error(&self, stream: u32, code: ErrorCode) {
        if let Some(Owner::Member(call)) = self.session.reset_with_error(stream, code) {
            call.failed_alone();
        }
    }

    fn data(
        &mut self,
        stream: u32,
        end: bool,
        data: &[u8],
        flow_controlled_len: u32,
    ) -> Result<(), ConnectionError> {
        let Some(Owner::Member(call)) = self.session.recv_data(stream, flow_controlled_len, end)?
        else {
            return Ok(());
        };
        let gone = call.answer(data, end);
        let padding = flow_controlled_len as usize - data.len();
        self.session.release_capacity(stream, gone + padding);
        if end {
            self.session.answered(stream);
        }
        Ok(())
    }
}

/// The failure of a call at the end of its connection; `None`: the connection was cut. `unsent`:
/// nothing of the call was sent.
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

/// Whether a field is connection-specific. HTTP/2 has none (RFC 9113, 8.2.2), but some peers send
/// them.
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    name == b"host" || std::str::from_utf8(name).is_ok_and(headers::is_hop_by_hop_name)
}

impl Drop for Member {
    /// Breaks the cycle of calls and connections when the task is aborted.
    fn drop(&mut self) {
        drop(self.session.close());
    }
}

impl Handler for Member {
    type Owner = Owner;

    fn session(&self) -> &Session {
        &self.session
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), ConnectionError> {
        match frame {
            Frame::Headers { stream, end, block } => self.headers(stream, end, block)?,
            Frame::Data {
                stream,
                end,
                data,
                flow_controlled_len,
            } => self.data(stream, end, data, flow_controlled_len)?,
            Frame::RstStream { stream, code } => {
                if let Some(Owner::Member(call)) = self.session.recv_reset(stream) {
                    match code {
                        // RFC 9113, 8.7: the request was not processed.
                        ErrorCode::REFUSED_STREAM => {
                            let refused = io::ErrorKind::ConnectionRefused;
                            call.failed(Failure::Unsent(refused.into()));
                        }
                        _ => call.failed_alone(),
                    }
                }
            }
            Frame::StreamError { stream } => {
                self.reset_with_error(stream, ErrorCode::PROTOCOL_ERROR)
            }
            Frame::GoAway { last, code } => {
                debug!(code = code.0, "a member sent GOAWAY");
                for owner in self.session.recv_goaway(last) {
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

    fn next_check(&self) -> Option<Duration> {
        match self.session.awaits_response() {
            true => Some(CHECK_INTERVAL),
            false => (0 < self.session.streams()).then_some(LOOK_INTERVAL),
        }
    }

    /// Suspects a member with slow calls. Reads leave a member that was found unreachable.
    fn check(&mut self) -> Result<(), ConnectionError> {
        self.leave_lost();
        let Some(then) = Instant::now().checked_sub(SLOW) else {
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

    fn keepalive(&self) -> Option<(Duration, Duration)> {
        (0 < self.session.streams()).then_some((PING_INTERVAL, PING_TIMEOUT))
    }
}
