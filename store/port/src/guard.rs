//! Bounds that hyper's HTTP/2 lacks: the time for a frame, a field block and the first settings,
//! and the number of frames that belong to no request.
//!
//! The guard reads only the headers of incoming frames. A connection that exceeds a bound is
//! closed.

mod frames;
mod pings;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{self, Instant, Sleep};

use bytes::BytesMut;

use self::frames::{Frames, Whole};
use self::pings::PingPolicy;
use crate::filtered::ReadFilter;
use crate::gathered::Answering;
use crate::limits::Limits;

/// Frames of settings, a second. Each costs a walk over the connection's streams.
const SETTINGS_MAX: u32 = 100;

/// Frames that belong to no request, a second. Clients that estimate the bandwidth-delay product
/// send a PING once a round trip while data comes.
const IDLE_MAX: u32 = 20_000;

/// Frames beyond those that were paid for, read while the client does not read. Each may have a
/// reset for its answer, which h2 keeps until it can be written (RUSTSEC-2024-0003).
const UNPAID_MAX: u32 = 20_000;

/// What pays for a frame: the bytes of a reset, written.
const RESET_BYTES: usize = 13;

/// What is counted together.
const PERIOD: Duration = Duration::from_secs(1);

/// A connection's, from its first byte on.
pub(crate) struct Guard {
    /// For the beginning of the connection, a block of fields, and a small frame.
    head_timeout: Duration,
    /// For a frame of data.
    body_timeout: Duration,
    frames: Frames,
    /// When the unfinished frame or block began.
    since: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
    counted_since: Instant,
    settings: u32,
    idle: u32,
    /// The socket has not taken all that it was offered.
    blocked: bool,
    /// Frames that were read while it was so, less those that were paid for since.
    unpaid: u32,
    pings: PingPolicy,
    farewell: Option<BytesMut>,
}

impl Guard {
    /// The guard of a connection whose requests are counted in `answering`.
    pub(crate) fn new(limits: &Limits, answering: Answering) -> Guard {
        let now = Instant::now();
        Guard {
            head_timeout: limits.head_timeout,
            body_timeout: limits.body_timeout,
            frames: Frames::default(),
            since: now,
            alarm: None,
            counted_since: now,
            settings: 0,
            idle: 0,
            blocked: false,
            unpaid: 0,
            pings: PingPolicy::new(limits.keepalive_min, answering),
            farewell: None,
        }
    }

    fn ping(&mut self) -> io::Result<()> {
        if !self.pings.exceeded_by_one_more() {
            return Ok(());
        }
        self.farewell = Some(pings::too_many(self.frames.last_stream));
        Err(invalid("too many pings"))
    }

    fn count(&mut self, whole: &Whole) -> io::Result<()> {
        self.unpaid += u32::from(self.blocked);
        if UNPAID_MAX < self.unpaid {
            return Err(invalid("too many frames while answers are not read"));
        }
        let (count, bound) = match whole {
            Whole::Settings => (&mut self.settings, SETTINGS_MAX),
            Whole::Idle | Whole::Ping => (&mut self.idle, IDLE_MAX),
            Whole::Other => return Ok(()),
        };
        *count += 1;
        if *count <= bound {
            return Ok(());
        }
        if self.counted_since.elapsed() < PERIOD {
            return Err(invalid("too many frames that are no request"));
        }
        self.counted_since = Instant::now();
        self.settings = 0;
        self.idle = 0;
        Ok(())
    }

    /// The deadline of the client; `None`: no deadline.
    fn due(&self) -> Option<Instant> {
        let partial = self.frames.is_partial();
        match self.frames.is_data() {
            _ if !partial => None,
            true => Some(self.since + self.body_timeout),
            false => Some(self.since + self.head_timeout),
        }
    }
}

impl ReadFilter for Guard {
    fn passed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let began_partial = self.frames.is_partial();
        let mut ended = false;
        while !bytes.is_empty() {
            if let Some(whole) = self.frames.take(&mut bytes)? {
                self.count(&whole)?;
                if matches!(whole, Whole::Ping) {
                    self.ping()?;
                }
                ended |= !self.frames.open;
            }
        }
        // The clock is read only for an unfinished frame: most reads end with a frame.
        if (ended || !began_partial) && self.frames.is_partial() {
            self.since = Instant::now();
        }
        Ok(())
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due() else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(time::sleep_until(due)));
        // A timer that fires early costs less than one that is reset every time.
        if due < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(due);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due);
        }
    }

    fn farewell(&mut self) -> Option<BytesMut> {
        self.farewell.take()
    }

    fn wrote(&mut self, bytes: usize, all: bool) {
        self.blocked = !all;
        let paid = u32::try_from(bytes / RESET_BYTES).unwrap_or(u32::MAX);
        self.unpaid = self.unpaid.saturating_sub(paid);
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
