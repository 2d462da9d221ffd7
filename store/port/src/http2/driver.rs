//! The driver of a connection: it owns the socket, reads frames, dispatches them, and writes.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{self, Instant, Sleep};

use super::connection::Wire;
use super::control_frames::ControlFrameLimit;
use super::deadlines::ReadDeadlines;
use super::frame::{self, ConnectionError, Frame, FrameReader, PREFACE};
use super::session::{Owner, Released, Session};

/// The size of one read. The buffer is on the stack: an idle connection has none.
const READ_BYTES: usize = 16 * 1024;

/// After so many reads, or one that fills the buffer, the driver yields.
const READS_A_TURN: usize = 4;

/// The part of a connection that differs between client and server.
pub trait Handler {
    /// The owner of a stream.
    type Owner: Owner;

    /// The session of the connection.
    fn session(&self) -> &Session<Self::Owner>;

    /// Handles a frame that the session does not handle: HEADERS, DATA, RST_STREAM, GOAWAY, an
    /// acknowledged PING, and stream errors.
    ///
    /// # Errors
    /// The frame is a connection error. The driver sends GOAWAY and ends.
    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), ConnectionError>;

    /// The peer's highest stream that was processed, for GOAWAY.
    fn last_stream(&self) -> u32;

    /// Whether a stream of the peer is idle (RFC 9113, 5.1).
    fn is_idle(&self, _stream: u32) -> bool {
        false
    }

    /// The time until `check` is to be called; `None`: never.
    fn next_check(&self) -> Option<Duration> {
        None
    }

    /// Handles deadlines of the handler's own.
    ///
    /// # Errors
    /// The connection is to end, with GOAWAY.
    fn check(&mut self) -> Result<(), ConnectionError> {
        Ok(())
    }

    /// The silence after which a PING is sent, and the time for its acknowledgement. `None`: no
    /// PING.
    fn keepalive(&self) -> Option<(Duration, Duration)>;
}

/// A connection with its socket.
pub struct Driver<H> {
    socket: Box<dyn Wire>,
    /// The handler of its frames.
    pub handler: H,
    frames: FrameReader,
    /// Bounds the control frames of a client.
    control_frames: Option<ControlFrameLimit>,
    /// Bounds the time that a client may take.
    deadlines: Option<ReadDeadlines>,
    /// The rest of the client's connection preface.
    preface: &'static [u8],
    /// The peer's first frame has been received.
    settings_received: bool,
    unsent: BytesMut,
    /// How many bytes of `unsent` are written.
    written: usize,
    unflushed: bool,
    timer: Option<Pin<Box<Sleep>>>,
    last_read: Instant,
    /// When the unacknowledged PING was sent.
    pinged: Option<Instant>,
    /// The connection is TLS: after a failed write, the number of bytes sent is unknown.
    secure: bool,
}

impl<H: Handler> Driver<H> {
    /// A driver; `server`: the peer sends a preface first; `secure`: the socket is TLS.
    pub fn new(socket: Box<dyn Wire>, handler: H, server: bool, secure: bool) -> Driver<H> {
        Driver {
            socket,
            handler,
            frames: FrameReader::default(),
            control_frames: server.then(ControlFrameLimit::default),
            deadlines: server.then(ReadDeadlines::new),
            preface: if server { PREFACE } else { &[] },
            settings_received: false,
            unsent: BytesMut::new(),
            written: 0,
            unflushed: false,
            timer: None,
            last_read: Instant::now(),
            pinged: None,
            secure,
        }
    }

    /// Runs the connection. Ready when it has ended.
    ///
    /// # Errors
    /// The socket's, `UnexpectedEof` at its end, `TimedOut` without an acknowledged PING, and
    /// `InvalidData` after a connection error of the peer.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_A_TURN {
            let read = match self.read(cx) {
                Ok(read) => read,
                Err(error) => {
                    // Sends GOAWAY, if the socket takes it. After any other error no new call is
                    // sent: it can still be executed elsewhere.
                    if error.kind() == io::ErrorKind::InvalidData {
                        let _ = self.write(cx);
                    }
                    return Poll::Ready(Err(error));
                }
            };
            let wrote = self.write(cx)?;
            let all_gone = self.written == self.unsent.len() && !self.unflushed;
            if all_gone && self.handler.session().is_over() {
                return Poll::Ready(Ok(()));
            }
            if read == 0 && !wrote {
                return self.run_timers(cx);
            }
            if read == READ_BYTES {
                break;
            }
        }
        // Yields to the tasks of the requests that were read, and to other connections.
        cx.waker().wake_by_ref();
        self.run_timers(cx)
    }

    /// Reads once. Returns the number of bytes.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let has_room = self.handler.session().has_room();
        if let Some(deadlines) = &mut self.deadlines {
            match has_room {
                true => deadlines.resume(),
                false => deadlines.suspend(),
            }
        }
        if !has_room {
            // A frame may need an answer. The task is woken when the socket takes bytes.
            return Ok(0);
        }
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.socket).poll_read(cx, &mut buffer)? {
            Poll::Pending => return Ok(0),
            Poll::Ready(()) if buffer.filled().is_empty() => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Poll::Ready(()) => {}
        }
        self.last_read = Instant::now();
        self.pinged = None;
        self.receive(buffer.filled())
            .map_err(|error| self.go_away(error))?;
        Ok(buffer.filled().len())
    }

    fn go_away(&self, error: ConnectionError) -> io::Error {
        let last = self.handler.last_stream();
        let session = self.handler.session();
        session.put(|out| frame::put_goaway(out, last, error.code, error.reason));
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    fn receive(&mut self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        let length = self.preface.len().min(bytes.len());
        if self.preface[..length] != bytes[..length] {
            return Err(ConnectionError::protocol("no preface"));
        }
        self.preface = &self.preface[length..];
        bytes = &bytes[length..];
        let (handler, settings_received, control_frames) = (
            &mut self.handler,
            &mut self.settings_received,
            &mut self.control_frames,
        );
        let mut whole = false;
        self.frames.read(bytes, |frame| {
            whole = true;
            if !*settings_received && !matches!(frame, Frame::Settings(_)) {
                return Err(ConnectionError::protocol(
                    "a connection begins with settings",
                ));
            }
            *settings_received = true;
            if let Some(control_frames) = control_frames {
                control_frames.count(&frame)?;
            }
            dispatch(handler, frame)
        })?;
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.update(self.settings_received, whole, self.frames.partial());
        }
        Ok(())
    }

    /// Writes all that the session has to send. Returns whether anything was written.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut wrote = false;
        loop {
            if self.written == self.unsent.len() {
                self.unsent.clear();
                self.written = 0;
                let session = self.handler.session();
                credit_owners(session.take(&mut self.unsent, cx.waker()));
            }
            if self.unsent.is_empty() {
                break;
            }
            let offered = &self.unsent[self.written..];
            match Pin::new(&mut self.socket).poll_write(cx, offered) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) => {
                    if self.secure {
                        self.handler.session().wrote(offered.len());
                    }
                    return Err(error);
                }
                Poll::Ready(Ok(written)) => {
                    self.written += written;
                    self.handler.session().wrote(written);
                    wrote = true;
                }
            }
        }
        self.unflushed |= wrote;
        if self.unflushed && Pin::new(&mut self.socket).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(wrote)
    }

    /// Runs the checks that are due: deadlines and keepalive.
    fn run_timers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(due) = self.due() else {
                // A timer that is set already fires without effect.
                return Poll::Pending;
            };
            let timer = match &mut self.timer {
                // A timer that fires early costs less than one that is reset every time.
                Some(timer) if timer.deadline() <= due => timer,
                _ => self.timer.insert(Box::pin(time::sleep_until(due))),
            };
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            let deadlines = self.deadlines.as_ref().map_or(Ok(()), ReadDeadlines::check);
            if let Err(error) = self.handler.check().and(deadlines) {
                let error = self.go_away(error);
                let _ = self.write(cx);
                return Poll::Ready(Err(error));
            }
            self.check_keepalive()?;
        }
    }

    /// The time of the next check.
    fn due(&self) -> Option<Instant> {
        let look = self
            .handler
            .next_check()
            .map(|pause| Instant::now() + pause);
        let listen = self
            .handler
            .keepalive()
            .map(|(interval, timeout)| match self.pinged {
                Some(pinged) => pinged + timeout,
                None => self.last_read + interval,
            });
        let deadlines = self.deadlines.as_ref().and_then(ReadDeadlines::due);
        look.into_iter().chain(listen).chain(deadlines).min()
    }

    fn check_keepalive(&mut self) -> io::Result<()> {
        let Some((interval, timeout)) = self.handler.keepalive() else {
            return Ok(());
        };
        match self.pinged {
            // Counted from the PING: an idle connection may have been silent for hours.
            Some(pinged) if timeout <= pinged.elapsed() => Err(io::ErrorKind::TimedOut.into()),
            None if interval <= self.last_read.elapsed() => {
                self.pinged = Some(Instant::now());
                let session = self.handler.session();
                session.put(|out| frame::put_ping(out, *b"keelson?", false));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Handles the frames that concern the connection, and passes others to the handler.
pub(super) fn dispatch(
    handler: &mut impl Handler,
    frame: Frame<'_>,
) -> Result<(), ConnectionError> {
    let session = handler.session();
    match frame {
        Frame::Settings(settings) => credit_owners(session.recv_settings(&settings)?),
        Frame::WindowUpdate { stream, .. } if handler.is_idle(stream) => {
            return Err(ConnectionError::protocol(
                "a window of a stream that has not begun",
            ));
        }
        Frame::WindowUpdate { stream, increment } => {
            credit_owners(session.recv_window_update(stream, increment)?)
        }
        Frame::Ping(bytes) => session.put(|out| frame::put_ping(out, bytes, true)),
        Frame::SettingsAck => session.recv_settings_ack(),
        frame => handler.on_frame(frame)?,
    }
    Ok(())
}

/// Reports sent bytes to the owners of their streams.
fn credit_owners<O: Owner>(released: Released<O>) {
    for (owner, bytes) in released {
        owner.sent(bytes);
    }
}
