//! The task that has a connection's socket: reads, has what it reads dealt with, and writes.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use keelson_port::Wire;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{self, Instant, Sleep};

use super::clock::Clock;
use super::flood::Flood;
use super::frame::{self, Event, Fault, Frames, PREFACE};
use super::session::{Flowed, Owner, Session};

/// Read at a time. On the stack: a connection that waits has no buffer.
const READ_BYTES: usize = 16 * 1024;

/// After so many reads, or one that is full, it is the other tasks' turn.
const READS_A_TURN: usize = 4;

/// What the two ends do differently.
pub(super) trait Side {
    fn session(&self) -> &Arc<Session>;

    /// A frame that does not concern the connection as such.
    fn event(&mut self, event: Event<'_>) -> Result<(), Fault>;

    /// The last stream of the other end that was looked at.
    fn last_stream(&self) -> u32;

    /// Whether a stream of the other end has not begun.
    fn is_idle(&self, _stream: u32) -> bool {
        false
    }

    /// How long until something has to be looked after, if anything has.
    fn pause(&self) -> Option<Duration> {
        None
    }

    /// It is time to look after it.
    fn look(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// How long the other end may be silent before it is asked for a sign of life, and how long
    /// that may take; `None`: for ever.
    fn patience(&self) -> Option<(Duration, Duration)>;
}

/// A connection, its socket included.
pub(super) struct Driver<S> {
    socket: Box<dyn Wire>,
    pub(super) side: S,
    frames: Frames,
    /// What a client may not send without end.
    flood: Option<Flood>,
    /// What it may not take without end.
    clock: Option<Clock>,
    /// Of the preface that a client begins with, what is still to come.
    preface: &'static [u8],
    /// The other end's first frame has come.
    greeted: bool,
    unsent: BytesMut,
    /// How much of that has gone.
    gone: usize,
    unflushed: bool,
    alarm: Option<Pin<Box<Sleep>>>,
    heard: Instant,
    /// When it was asked for a sign of life.
    pinged: Option<Instant>,
    /// Over TLS it is unknown how much of a write that failed has gone.
    secure: bool,
}

impl<S: Side> Driver<S> {
    /// At a server's end a preface comes first. `secure`: it is TLS.
    pub(super) fn new(socket: Box<dyn Wire>, side: S, server: bool, secure: bool) -> Driver<S> {
        Driver {
            socket,
            side,
            frames: Frames::default(),
            flood: server.then(Flood::default),
            clock: server.then(Clock::new),
            preface: if server { PREFACE } else { &[] },
            greeted: false,
            unsent: BytesMut::new(),
            gone: 0,
            unflushed: false,
            alarm: None,
            heard: Instant::now(),
            pinged: None,
            secure,
        }
    }

    /// Ready when the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_A_TURN {
            let read = match self.read(cx) {
                Ok(read) => read,
                Err(error) => {
                    // Farewell, if there is room for it. But nothing that is new to the other end
                    // goes to one that has left: it can still be done elsewhere.
                    if error.kind() == io::ErrorKind::InvalidData {
                        let _ = self.write(cx);
                    }
                    return Poll::Ready(Err(error));
                }
            };
            let wrote = self.write(cx)?;
            let all_gone = self.gone == self.unsent.len() && !self.unflushed;
            if all_gone && self.side.session().is_over() {
                return Poll::Ready(Ok(()));
            }
            if read == 0 && !wrote {
                return self.look(cx);
            }
            if read == READ_BYTES {
                break;
            }
        }
        // Tasks handle what was read so far; yielding lets other connections run.
        cx.waker().wake_by_ref();
        self.look(cx)
    }

    /// Returns how much there was.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let has_room = self.side.session().has_room();
        if let Some(clock) = &mut self.clock {
            match has_room {
                true => clock.goes_on(),
                false => clock.stop(),
            }
        }
        if !has_room {
            // What is read may have to be answered. The socket that takes nothing will wake us.
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
        self.heard = Instant::now();
        self.pinged = None;
        self.arrived(buffer.filled())
            .map_err(|fault| self.say_goodbye(fault))?;
        Ok(buffer.filled().len())
    }

    fn say_goodbye(&self, fault: Fault) -> io::Error {
        let last = self.side.last_stream();
        let session = self.side.session();
        session.put(|out| frame::put_goaway(out, last, fault.code, fault.what));
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    fn arrived(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let length = self.preface.len().min(bytes.len());
        if self.preface[..length] != bytes[..length] {
            return Err(Fault::protocol("no preface"));
        }
        self.preface = &self.preface[length..];
        bytes = &bytes[length..];
        let (side, greeted, flood) = (&mut self.side, &mut self.greeted, &mut self.flood);
        let mut whole = false;
        self.frames.take(bytes, |event| {
            whole = true;
            if !*greeted && !matches!(event, Event::Settings(_)) {
                return Err(Fault::protocol("a connection begins with settings"));
            }
            *greeted = true;
            if let Some(flood) = flood {
                flood.count(&event)?;
            }
            meet(side, event)
        })?;
        if let Some(clock) = &mut self.clock {
            clock.arrived(self.greeted, whole, self.frames.partial());
        }
        Ok(())
    }

    /// Writes as long as there is something. Returns whether there was.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut wrote = false;
        loop {
            if self.gone == self.unsent.len() {
                self.unsent.clear();
                self.gone = 0;
                let session = self.side.session();
                pass_on(session.take(&mut self.unsent, cx.waker()));
            }
            if self.unsent.is_empty() {
                break;
            }
            let offered = &self.unsent[self.gone..];
            match Pin::new(&mut self.socket).poll_write(cx, offered) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) => {
                    if self.secure {
                        self.side.session().wrote(offered.len());
                    }
                    return Err(error);
                }
                Poll::Ready(Ok(written)) => {
                    self.gone += written;
                    self.side.session().wrote(written);
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

    /// Looks after what takes long, and whether the other end is still there.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(due) = self.due() else {
                // What was set before comes to nothing.
                return Poll::Pending;
            };
            let alarm = match &mut self.alarm {
                // One that is early costs less than setting it anew every time.
                Some(alarm) if alarm.deadline() <= due => alarm,
                _ => self.alarm.insert(Box::pin(time::sleep_until(due))),
            };
            ready!(alarm.as_mut().poll(cx));
            self.alarm = None;
            let clock = self.clock.as_ref().map_or(Ok(()), Clock::check);
            if let Err(fault) = self.side.look().and(clock) {
                let error = self.say_goodbye(fault);
                let _ = self.write(cx);
                return Poll::Ready(Err(error));
            }
            self.listen()?;
        }
    }

    /// When to look next.
    fn due(&self) -> Option<Instant> {
        let look = self.side.pause().map(|pause| Instant::now() + pause);
        let listen = self
            .side
            .patience()
            .map(|(interval, timeout)| match self.pinged {
                Some(pinged) => pinged + timeout,
                None => self.heard + interval,
            });
        let clock = self.clock.as_ref().and_then(Clock::due);
        look.into_iter().chain(listen).chain(clock).min()
    }

    fn listen(&mut self) -> io::Result<()> {
        let Some((interval, timeout)) = self.side.patience() else {
            return Ok(());
        };
        match self.pinged {
            // Counted from the ping: a connection may have been silent for hours without a request.
            Some(pinged) if timeout <= pinged.elapsed() => Err(io::ErrorKind::TimedOut.into()),
            None if interval <= self.heard.elapsed() => {
                self.pinged = Some(Instant::now());
                let session = self.side.session();
                session.put(|out| frame::put_ping(out, *b"keelson?", false));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What concerns the connection as such, both ends do alike.
fn meet(side: &mut impl Side, event: Event<'_>) -> Result<(), Fault> {
    let session = side.session();
    match event {
        Event::Settings(settings) => pass_on(session.settings(&settings)?),
        Event::Window { stream, .. } if side.is_idle(stream) => {
            return Err(Fault::protocol("a window of a stream that has not begun"));
        }
        Event::Window { stream, by } => pass_on(session.grown(stream, by)?),
        Event::Ping(bytes) => session.put(|out| frame::put_ping(out, bytes, true)),
        Event::SettingsAck => session.acknowledged(),
        event => side.event(event)?,
    }
    Ok(())
}

/// Counts data that has gone on at its other end.
fn pass_on(flowed: Flowed) {
    for (owner, bytes) in flowed {
        match owner {
            Owner::Client(call) => call.reached_client(bytes),
            Owner::Member(call) => call.reached_member(bytes),
            Owner::Other(other) => other.has_room(),
        }
    }
}
