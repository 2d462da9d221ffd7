//! The framing of a body: a length, chunks, or the end of the connection (RFC 9112, 6 and 7).

use std::fmt::Write as _;
use std::io;

use bytes::{Buf, Bytes, BytesMut};

/// The length of a line: a chunk's size with its extensions, or a trailer.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// The end of a chunked body without trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Frames some of a body as a chunk. Nothing stays nothing: an empty chunk would end the body.
pub(crate) fn chunk(data: &[u8]) -> Bytes {
    if data.is_empty() {
        return Bytes::new();
    }
    let mut chunk = BytesMut::with_capacity(data.len() + 20);
    write!(chunk, "{:x}\r\n", data.len()).expect("a buffer grows");
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk.freeze()
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The number of bytes to come.
    Length(u64),
    /// Chunks, and the position in them.
    Chunked(Chunk),
    /// All bytes until the connection ends.
    UntilClose,
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Before the size of a chunk.
    Size,
    /// In a chunk, this many bytes before its end.
    Data(u64),
    /// Before the line end that follows a chunk.
    End,
    /// After the last chunk.
    Trailers,
    /// After the trailers.
    Over,
}

/// The result of a decoding step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Some of the body.
    Part(Bytes),
    /// More bytes have to arrive first.
    Starved,
    /// The body is complete.
    End,
}

impl Framing {
    pub(crate) fn chunked() -> Framing {
        Framing::Chunked(Chunk::Size)
    }

    /// Takes the next part from `received`.
    pub(crate) fn decode(&mut self, received: &mut BytesMut) -> io::Result<Decoded> {
        match self {
            Framing::Length(0) => Ok(Decoded::End),
            Framing::Length(left) => Ok(take(left, received)),
            Framing::Chunked(chunk) => chunk.decode(received),
            Framing::UntilClose => {
                let mut endless = u64::MAX;
                Ok(take(&mut endless, received))
            }
        }
    }

    /// Whether the received bytes end the body. A part that follows is not consumed.
    pub(crate) fn ends(&mut self, received: &mut BytesMut) -> io::Result<bool> {
        match self {
            Framing::Length(left) => Ok(*left == 0),
            Framing::Chunked(chunk) => chunk.ends(received),
            Framing::UntilClose => Ok(false),
        }
    }

    /// Whether the end of the connection ends the body.
    pub(crate) fn may_end(&self) -> bool {
        matches!(self, Framing::UntilClose)
    }
}

/// Takes at most `left` bytes, and subtracts them from it.
fn take(left: &mut u64, received: &mut BytesMut) -> Decoded {
    let length = received
        .len()
        .min(usize::try_from(*left).unwrap_or(usize::MAX));
    if length == 0 {
        return Decoded::Starved;
    }
    *left -= length as u64;
    Decoded::Part(received.split_to(length).freeze())
}

impl Chunk {
    fn decode(&mut self, received: &mut BytesMut) -> io::Result<Decoded> {
        if self.ends(received)? {
            return Ok(Decoded::End);
        }
        match self {
            Chunk::Data(left) => Ok(take(left, received)),
            _ => Ok(Decoded::Starved),
        }
    }

    /// Consumes the lines around the data.
    fn ends(&mut self, received: &mut BytesMut) -> io::Result<bool> {
        loop {
            match self {
                Chunk::Data(0) => *self = Chunk::End,
                Chunk::Data(_) => return Ok(false),
                Chunk::Over => return Ok(true),
                _ => match line(received)? {
                    Some(line) => self.pass(&line)?,
                    None => return Ok(false),
                },
            }
        }
    }

    /// Consumes a line.
    fn pass(&mut self, line: &[u8]) -> io::Result<()> {
        *self = match (&self, line) {
            (Chunk::End, b"") => Chunk::Size,
            (Chunk::Trailers, b"") => Chunk::Over,
            // Trailers are dropped. etcd sends none.
            (Chunk::Trailers, _) => Chunk::Trailers,
            (Chunk::Size, line) => match size(line)? {
                0 => Chunk::Trailers,
                size => Chunk::Data(size),
            },
            _ => return Err(malformed()),
        };
        Ok(())
    }
}

/// A line without its end.
fn line(received: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(end) = received.iter().position(|byte| *byte == b'\n') else {
        return match received.len() < LINE_BYTES_MAX {
            true => Ok(None),
            false => Err(malformed()),
        };
    };
    let mut line = received.split_to(end);
    received.advance(1);
    match line.last() {
        Some(b'\r') => line.truncate(end - 1),
        _ => return Err(malformed()),
    }
    Ok(Some(line))
}

fn size(line: &[u8]) -> io::Result<u64> {
    let digits = line
        .split(|byte| matches!(byte, b';' | b' ' | b'\t'))
        .next();
    let digits = digits.unwrap_or_default();
    if digits.is_empty() || 16 < digits.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(malformed());
    }
    let text = std::str::from_utf8(digits).expect("hex digits are text");
    u64::from_str_radix(text, 16).map_err(|_| malformed())
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the answer's chunks are malformed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, what follows it, and whether it ended.
    fn decoded(
        mut framing: Framing,
        sent: &[u8],
        pieces: usize,
    ) -> io::Result<(Vec<u8>, usize, bool)> {
        let mut body = vec![];
        let mut received = BytesMut::new();
        let mut consumed = 0;
        for piece in sent.chunks(pieces) {
            received.extend_from_slice(piece);
            consumed += piece.len();
            loop {
                match framing.decode(&mut received)? {
                    Decoded::Part(part) => body.extend_from_slice(&part),
                    Decoded::Starved => break,
                    Decoded::End => return Ok((body, consumed - received.len(), true)),
                }
            }
        }
        Ok((body, consumed, false))
    }

    #[test]
    fn bodies_are_the_same_however_they_arrive() {
        let chunks: &[u8] = b"3\r\nabc\r\n00a;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        let cases: [(Framing, &[u8], &[u8], bool); 4] = [
            (Framing::Length(3), b"abc", b"abc", true),
            (Framing::Length(4), b"abc", b"abc", false),
            (Framing::chunked(), chunks, b"abc0123456789", true),
            (Framing::UntilClose, b"abc", b"abc", false),
        ];
        for (framing, sent, expected, ends) in cases {
            for pieces in 1..=sent.len() {
                let (body, consumed, ended) = decoded(framing, sent, pieces).unwrap();
                assert_eq!((body.as_slice(), ended), (expected, ends));
                assert_eq!(consumed, sent.len());
            }
        }
        let (body, consumed, ended) = decoded(Framing::Length(2), b"abc", 3).unwrap();
        assert_eq!((body.as_slice(), consumed, ended), (&b"ab"[..], 2, true));
    }

    #[test]
    fn malformed_chunks_are_errors() {
        let long = [b'0'; LINE_BYTES_MAX];
        let sent: [&[u8]; 7] = [
            b"\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"12345678123456781\r\n",
            &long,
        ];
        for sent in sent {
            assert!(
                decoded(Framing::chunked(), sent, sent.len()).is_err(),
                "{sent:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_cause_no_panic(sent: Vec<u8>, pieces in 1..9_usize) {
            // It may be an error, but not a panic.
            let _ = decoded(Framing::chunked(), &sent, pieces);
        }

        #[test]
        fn chunks_carry_any_body(parts: Vec<Vec<u8>>, pieces in 1..99_usize) {
            let mut sent = vec![];
            for part in &parts {
                sent.extend_from_slice(&chunk(part));
            }
            sent.extend_from_slice(LAST_CHUNK);
            let (body, consumed, ended) = decoded(Framing::chunked(), &sent, pieces).unwrap();
            proptest::prop_assert_eq!(body, parts.concat());
            proptest::prop_assert_eq!((consumed, ended), (sent.len(), true));
        }
    }
}
