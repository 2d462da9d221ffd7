//! Mends heads of HTTP/1.1 requests that Go takes and hyper does not.
//!
//! `?prevValue="x"`, as people type it: `"`, `<`, `>` and the backtick are no characters of a URL,
//! and etcd's server has never minded them. They become what they ought to be, `%22` and so on. And
//! headers that go on in the next line (RFC 9112, 5.2): the break becomes a space, as in Go.
//!
//! This is done where a head begins for certain and only there: where hyper was given the socket,
//! and then after each request whose end is beyond doubt - no body, or a single plain
//! `Content-Length`. At anything else the rest of the connection is passed on as it is: two
//! opinions on where a body ends are how requests are smuggled. From there on hyper refuses what it
//! does not take, as before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::byte_set::ByteSet;

/// What field names consist of: `tchar` of RFC 9110, 5.6.2.
const TOKEN: ByteSet = ByteSet::alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// A socket whose heads are mended.
pub(crate) struct HeadMender<S> {
    inner: S,
    place: NextPart,
    /// Of a head that is not complete.
    held: BytesMut,
    /// To be handed on: mended, or held until its head was complete.
    ready: BytesMut,
    /// Heads that are longer are passed on as they are, in bytes.
    head_bytes_max: usize,
}

/// The next part of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextPart {
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// From here on all is passed on as it is.
    Unknown,
}

impl<S> HeadMender<S> {
    pub(crate) fn new(inner: S, head_bytes_max: usize) -> HeadMender<S> {
        HeadMender {
            inner,
            place: NextPart::Head,
            held: BytesMut::new(),
            ready: BytesMut::new(),
            head_bytes_max,
        }
    }

    /// The socket below, and the bytes read from it that were not taken.
    pub(crate) fn into_parts(mut self) -> (S, Bytes) {
        self.ready.unsplit(self.held);
        (self.inner, self.ready.freeze())
    }

    /// Looks at what has arrived. Returns whether it may be handed on as it lies; otherwise what is
    /// to be handed on is in `ready`.
    fn pass(&mut self, arrived: &[u8]) -> bool {
        if self.held.is_empty() && self.passes_as_it_is(arrived) {
            return true;
        }
        let mut rest = arrived;
        while !rest.is_empty() {
            match self.place {
                NextPart::Head => {
                    self.held.extend_from_slice(rest);
                    let goes_on = rest.contains(&b'\n') || self.head_bytes_max < self.held.len();
                    rest = &[];
                    if goes_on {
                        self.mend_held();
                    }
                }
                NextPart::Body(left) => {
                    let taken =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.ready.extend_from_slice(&rest[..taken]);
                    self.place = after_body(left, taken);
                    rest = &rest[taken..];
                }
                NextPart::Unknown => {
                    self.ready.extend_from_slice(rest);
                    return false;
                }
            }
        }
        false
    }

    /// Whether all of it is whole heads that need no mending, and their bodies.
    fn passes_as_it_is(&mut self, arrived: &[u8]) -> bool {
        let mut place = self.place;
        let mut rest = arrived;
        while !rest.is_empty() {
            match place {
                NextPart::Head => match CompleteHead::of(rest) {
                    Found::Head(head) if !head.needs_mending() => {
                        place = head.next;
                        rest = &rest[head.bytes..];
                    }
                    Found::Odd => {
                        place = NextPart::Unknown;
                        break;
                    }
                    _ => return false,
                },
                NextPart::Body(left) => {
                    let taken =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    place = after_body(left, taken);
                    rest = &rest[taken..];
                }
                NextPart::Unknown => break,
            }
        }
        self.place = place;
        true
    }

    /// Hands on what of the held is complete.
    fn mend_held(&mut self) {
        while !self.held.is_empty() {
            match self.place {
                NextPart::Head => match CompleteHead::of(&self.held) {
                    Found::Head(head) if head.bytes <= self.head_bytes_max => {
                        let (bytes, next) = match head.needs_mending() {
                            true => head.mend(&self.held[..head.bytes], &mut self.ready),
                            false => {
                                self.ready.extend_from_slice(&self.held[..head.bytes]);
                                (head.bytes, head.next)
                            }
                        };
                        self.held.advance(bytes);
                        self.place = next;
                    }
                    Found::Part if self.held.len() <= self.head_bytes_max => return,
                    _ => self.place = NextPart::Unknown,
                },
                NextPart::Body(left) => {
                    let held = self.held.len();
                    let taken = usize::try_from(left).map_or(held, |left| left.min(held));
                    self.ready.unsplit(self.held.split_to(taken));
                    self.place = after_body(left, taken);
                }
                NextPart::Unknown => self.ready.unsplit(self.held.split()),
            }
        }
    }
}

fn after_body(left: u64, taken: usize) -> NextPart {
    match left - taken as u64 {
        0 => NextPart::Head,
        left => NextPart::Body(left),
    }
}

/// The message that begins at a position.
enum Found {
    Head(CompleteHead),
    /// Of a head; more is needed.
    Part,
    /// Bytes that hyper refuses.
    Odd,
}

/// A head that is complete.
struct CompleteHead {
    bytes: usize,
    /// What comes after it.
    next: NextPart,
    /// A header continues on another line.
    folded: bool,
    /// The target has characters that are none of a URL's.
    quoted: bool,
}

impl CompleteHead {
    fn of(received: &[u8]) -> Found {
        let mut head = CompleteHead {
            bytes: 0,
            next: NextPart::Head,
            folded: false,
            quoted: false,
        };
        let mut framing = Framing::default();
        let mut count = 0;
        while let Some(end) = memchr(b'\n', &received[head.bytes..]) {
            let line = &received[head.bytes..head.bytes + end];
            // Some parsers end a line at a bare line feed too.
            let Some(line) = line
                .strip_suffix(b"\r")
                .filter(|line| memchr(b'\r', line).is_none())
            else {
                return Found::Odd;
            };
            head.bytes += end + 1;
            count += 1;
            match (count, line) {
                (1, line) => match target_of(line) {
                    Some(target) => head.quoted = target.iter().any(|byte| escape(*byte).is_some()),
                    None => return Found::Odd,
                },
                (_, []) => {
                    head.next = framing.next();
                    return Found::Head(head);
                }
                (2, [b' ' | b'\t', ..]) => return Found::Odd,
                (_, [b' ' | b'\t', ..]) => head.folded = true,
                (_, line) => {
                    if framing.note(line).is_none() {
                        return Found::Odd;
                    }
                }
            }
        }
        match received[head.bytes..].contains(&b'\r') && !received.ends_with(b"\r") {
            true => Found::Odd,
            false => Found::Part,
        }
    }

    fn needs_mending(&self) -> bool {
        self.folded || self.quoted
    }

    /// Writes the head as it ought to be. Returns how many bytes of `head` that was, and what comes
    /// next.
    fn mend(&self, head: &[u8], mended: &mut BytesMut) -> (usize, NextPart) {
        let mut unfolded = Vec::with_capacity(head.len() + 64);
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            if matches!(line, [b' ' | b'\t', ..]) {
                unfolded.truncate(unfolded.trim_ascii_end().len());
                unfolded.push(b' ');
                unfolded.extend_from_slice(line.trim_ascii_start());
                if line.trim_ascii().is_empty() {
                    unfolded.extend_from_slice(b"\r\n");
                }
            } else {
                unfolded.extend_from_slice(line);
            }
        }
        // A length may have been in the line that was joined.
        let next = match CompleteHead::of(&unfolded) {
            Found::Head(joined) if joined.bytes == unfolded.len() => joined.next,
            _ => NextPart::Unknown,
        };
        let line_end = unfolded.iter().position(|byte| *byte == b'\r');
        let (line, rest) = unfolded.split_at(line_end.unwrap_or(0));
        put_escaped(mended, line);
        mended.extend_from_slice(rest);
        (self.bytes, next)
    }
}

/// The target of a request line. `None`: it is no line that hyper would take.
fn target_of(line: &[u8]) -> Option<&[u8]> {
    let method = line.iter().position(|byte| !byte.is_ascii_uppercase())?;
    let after = line[method..].strip_prefix(b" ")?;
    let end = after
        .iter()
        .position(|byte| !matches!(byte, b'!'..=b'~' | 0x80..))?;
    let (target, version) = after.split_at(end);
    let sound = method != 0 && !target.is_empty() && version.starts_with(b" HTTP/1.");
    (sound && &line[..method] != b"CONNECT").then_some(target)
}

/// Only the target may have one: nothing else of such a line is quoted.
fn put_escaped(out: &mut BytesMut, line: &[u8]) {
    for byte in line {
        match escape(*byte) {
            Some(escaped) => out.extend_from_slice(escaped),
            None => out.extend_from_slice(std::slice::from_ref(byte)),
        }
    }
}

fn escape(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"%22"),
        b'<' => Some(b"%3C"),
        b'>' => Some(b"%3E"),
        b'`' => Some(b"%60"),
        _ => None,
    }
}

/// The length of the body by its headers.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    /// By a transfer coding, or by something that is no plain number: not followed here.
    unclear: bool,
}

impl Framing {
    /// `None`: it is no header.
    fn note(&mut self, line: &[u8]) -> Option<()> {
        let colon = memchr(b':', line)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| TOKEN.contains(*byte)) {
            return None;
        }
        self.unclear |= name.eq_ignore_ascii_case(b"transfer-encoding");
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.trim_ascii();
            let plain = (1..19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(digits).ok().filter(|_| plain);
            let length = length.and_then(|digits| digits.parse().ok());
            self.unclear |= length.is_none() || self.length.is_some();
            self.length = length;
        }
        Some(())
    }

    fn next(&self) -> NextPart {
        match (self.unclear, self.length) {
            (true, _) => NextPart::Unknown,
            (false, None | Some(0)) => NextPart::Head,
            (false, Some(length)) => NextPart::Body(length),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadMender<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mender = self.get_mut();
        while mender.ready.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut mender.inner).poll_read(cx, buf))?;
            let arrived = &buf.filled()[before..];
            if mender.place == NextPart::Unknown && mender.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if arrived.is_empty() {
                // The end, perhaps in the middle of a head.
                mender.place = NextPart::Unknown;
                if mender.held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                mender.mend_held();
            } else if mender.pass(arrived) {
                return Poll::Ready(Ok(()));
            } else {
                buf.set_filled(before);
            }
        }
        let taken = mender.ready.len().min(buf.remaining());
        buf.put_slice(&mender.ready[..taken]);
        mender.ready.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadMender<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
