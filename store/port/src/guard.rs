//! What hyper's HTTP/2 does not bound: how long a client may take for what has to come in one go, and how
//! much it may send that is no request.
//!
//! Only the heads of frames are looked at, on their way in. A client that goes too far is cut off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{self, Instant, Sleep};

use crate::filtered::ReadFilter;
use crate::limits::Limits;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Frames of settings, a second. Each costs a walk over the connection's streams.
const SETTINGS_MAX: u32 = 100;

/// Frames that belong to no request, a second. Clients that find out how much a connection carries ping once
/// a round trip while data comes.
const IDLE_MAX: u32 = 20_000;

/// What is counted together.
const PERIOD: Duration = Duration::from_secs(1);

/// A connection's, from its first byte on.
pub(crate) struct Guard {
    /// For the beginning of the connection, a block of fields, and a small frame.
    head_timeout: Duration,
    /// For a frame of data.
    body_timeout: Duration,
    frames: Frames,
    /// Since when what is begun has not ended.
    since: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
    counted_since: Instant,
    settings: u32,
    idle: u32,
}

/// Where in the frames the client is.
struct Frames {
    /// Of the preface, still to come.
    preface: usize,
    head: [u8; HEAD_BYTES],
    /// How much of the head has come.
    known: usize,
    /// Of the payload, still to come.
    payload: usize,
    /// The first settings have come.
    greeted: bool,
    /// A block of fields has not ended.
    open: bool,
}

/// What has come whole.
enum Whole {
    Settings,
    /// What belongs to no request.
    Idle,
    Other,
}

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Guard {
        let now = Instant::now();
        Guard {
            head_timeout: limits.head_timeout,
            body_timeout: limits.body_timeout,
            frames: Frames {
                preface: PREFACE_BYTES,
                head: [0; HEAD_BYTES],
                known: 0,
                payload: 0,
                greeted: false,
                open: false,
            },
            since: now,
            alarm: None,
            counted_since: now,
            settings: 0,
            idle: 0,
        }
    }

    fn arrived(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let began_partial = self.frames.is_partial();
        let mut ended = false;
        while !bytes.is_empty() {
            if let Some(whole) = self.frames.take(&mut bytes)? {
                self.count(&whole)?;
                ended |= !self.frames.open;
            }
        }
        if ended || !began_partial {
            self.since = Instant::now();
        }
        Ok(())
    }

    fn count(&mut self, whole: &Whole) -> io::Result<()> {
        let (count, bound) = match whole {
            Whole::Settings => (&mut self.settings, SETTINGS_MAX),
            Whole::Idle => (&mut self.idle, IDLE_MAX),
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

    /// Until when the client has time to go on; `None`: for ever.
    fn due(&self) -> Option<Instant> {
        let partial = self.frames.is_partial();
        match self.frames.is_data() {
            _ if !partial => None,
            true => Some(self.since + self.body_timeout),
            false => Some(self.since + self.head_timeout),
        }
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due() else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(time::sleep_until(due)));
        // One that is early costs less than setting it anew every time.
        if due < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(due);
        }
        loop {
            std::task::ready!(alarm.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due);
        }
    }
}

impl Frames {
    /// Whether something is begun and has not ended.
    fn is_partial(&self) -> bool {
        !self.greeted || self.open || 0 < self.known
    }

    fn is_data(&self) -> bool {
        self.known == HEAD_BYTES && self.head[3] == DATA && self.greeted && !self.open
    }

    /// Takes off what can be taken. Returns what has come whole with it.
    fn take(&mut self, bytes: &mut &[u8]) -> io::Result<Option<Whole>> {
        if 0 < self.preface {
            self.preface -= skip(bytes, self.preface);
            return Ok(None);
        }
        if self.known < HEAD_BYTES {
            let part = bytes.len().min(HEAD_BYTES - self.known);
            self.head[self.known..self.known + part].copy_from_slice(&bytes[..part]);
            self.known += part;
            *bytes = &bytes[part..];
            if self.known < HEAD_BYTES {
                return Ok(None);
            }
            self.payload = self.length();
            self.check()?;
        }
        self.payload -= skip(bytes, self.payload);
        if 0 < self.payload {
            return Ok(None);
        }
        self.known = 0;
        Ok(Some(self.whole()))
    }

    fn length(&self) -> usize {
        let [first, second, third, ..] = self.head;
        usize::from(first) << 16 | usize::from(second) << 8 | usize::from(third)
    }

    /// RFC 9113, 3.4: a connection begins with settings, which hyper does not insist on.
    fn check(&self) -> io::Result<()> {
        let [.., kind, flags, _, _, _, _] = self.head;
        match self.greeted || kind == SETTINGS && flags & ACK == 0 {
            true => Ok(()),
            false => Err(invalid("a connection begins with settings")),
        }
    }

    fn whole(&mut self) -> Whole {
        let [.., kind, flags, _, _, _, _] = self.head;
        self.greeted = true;
        match kind {
            HEADERS | CONTINUATION => {
                self.open = flags & END_HEADERS == 0;
                Whole::Other
            }
            SETTINGS if flags & ACK == 0 => Whole::Settings,
            DATA if flags & END_STREAM != 0 || self.length() != 0 => Whole::Other,
            RST_STREAM | WINDOW_UPDATE => Whole::Other,
            _ => Whole::Idle,
        }
    }
}

fn skip(bytes: &mut &[u8], most: usize) -> usize {
    let part = bytes.len().min(most);
    *bytes = &bytes[part..];
    part
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl ReadFilter for Guard {
    fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        socket: Pin<&mut I>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match socket.poll_read(cx, buf) {
            Poll::Ready(read) => {
                read?;
                let arrived = self.arrived(&buf.filled()[before..]);
                if arrived.is_err() {
                    // An error comes without bytes.
                    buf.set_filled(before);
                }
                Poll::Ready(arrived)
            }
            Poll::Pending => {
                std::task::ready!(self.poll_expired(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::filtered::Filtered;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
    }

    fn begun() -> Vec<u8> {
        [PREFACE, &frame(SETTINGS, 0, &[])].concat()
    }

    fn guarded() -> (DuplexStream, Filtered<Guard, DuplexStream>) {
        let (client, server) = tokio::io::duplex(1 << 20);
        (
            client,
            Filtered::new(server, Guard::new(&Limits::default())),
        )
    }

    /// When a client that sends this and then nothing is cut off, in seconds; `None`: not within a day.
    async fn cut_after(sent: &[u8]) -> Option<u64> {
        let (mut client, mut server) = guarded();
        client.write_all(sent).await.unwrap();
        let began = Instant::now();
        let mut read = vec![];
        let ended = server.read_to_end(&mut read);
        let day = Duration::from_secs(24 * 3600);
        let error = time::timeout(day, ended).await.ok()?.unwrap_err();
        assert_eq!(read, sent);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        Some(began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_begun_has_to_end() {
        let cases: [(&[u8], Option<u64>); 7] = [
            (b"PRI ", Some(15)),
            (PREFACE, Some(15)),
            // Half a frame of settings, or of anything.
            (&[0, 0, 6, SETTINGS], Some(15)),
            // A block of fields whose end does not come.
            (&frame(HEADERS, 0, b"ab"), Some(15)),
            (&[0, 0, 6, DATA, 0, 0, 0, 0, 1, 1], Some(60)),
            (&frame(HEADERS, END_HEADERS, b"ab"), None),
            (&[], None),
        ];
        for (sent, expected) in cases {
            let sent = match sent.starts_with(b"PRI") {
                true => sent.to_vec(),
                false => [&begun(), sent].concat(),
            };
            assert_eq!(cut_after(&sent).await, expected, "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_not_going_on() {
        let (mut client, mut server) = guarded();
        let reading = tokio::spawn(async move { server.read_to_end(&mut vec![]).await });
        client.write_all(&begun()).await.unwrap();
        let mut blocks = frame(HEADERS, 0, b"a");
        blocks.extend(frame(CONTINUATION, 0, b"a").repeat(20));
        for byte in blocks {
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
            time::sleep(Duration::from_secs(1)).await;
        }
        let ended = reading.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_begins_with_settings() {
        for first in [frame(6, ACK, &[0; 8]), frame(SETTINGS, ACK, &[])] {
            let (mut client, mut server) = guarded();
            client.write_all(&[PREFACE, &first].concat()).await.unwrap();
            let error = server.read_to_end(&mut vec![]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_frames_that_are_no_request_cuts_a_client_off() {
        let cases = [
            (frame(SETTINGS, 0, &[]), 99),
            (frame(6, 0, &[0; 8]), 20_000),
            (frame(2, 0, &[0; 5]), 20_000),
            (frame(DATA, 0, &[]), 20_000),
            (frame(SETTINGS, ACK, &[]), 20_000),
        ];
        for (frame, bound) in cases {
            for more in [0, 1] {
                let (mut client, mut server) = guarded();
                let sent = [begun(), frame.repeat(bound + more)].concat();
                let writing = tokio::spawn(async move {
                    let _ = client.write_all(&sent).await;
                });
                let read = server.read_to_end(&mut vec![]).await;
                assert_eq!(read.is_err(), more == 1, "{frame:?}");
                writing.abort();
            }
        }
    }

    proptest::proptest! {
        /// However the bytes are cut, the same is found.
        #[test]
        fn frames_are_found_however_they_come(sent: Vec<u8>, size in 1..20_usize) {
            let found = |size: usize| {
                let mut guard = Guard::new(&Limits::default());
                guard.frames.preface = 0;
                let read: io::Result<()> = sent.chunks(size).try_for_each(|part| guard.arrived(part));
                (read.is_err(), guard.frames.known, guard.frames.payload, guard.frames.open)
            };
            let (whole, parts) = (found(sent.len().max(1)), found(size));
            proptest::prop_assert_eq!(whole.0, parts.0);
            if !whole.0 {
                proptest::prop_assert_eq!(whole, parts);
            }
        }
    }
}
