//! Mends the `:authority` of old etcd clients, which h2 would refuse.
//!
//! `etcdctl endpoint status` of 3.4 sends an endpoint like `http://10.0.0.1:2379` as its authority,
//! and clients of 3.5.0 send `#initially=[...]`. Go's servers never look; h2 resets such requests
//! with PROTOCOL_ERROR (hyperium/h2#525), and nothing can be configured. The value is only looked
//! at by h2 itself, so it is made acceptable before h2 sees it: in the connection's first HEADERS
//! frame, because from then on these clients refer to the value by its place in the compression
//! table.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::uri::Authority;
use tokio::io::{AsyncRead, ReadBuf};

use crate::filtered::ReadFilter;
use crate::hpack;

/// `:authority`'s place in the static table: RFC 7541, appendix A.
const AUTHORITY: usize = 1;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
/// The largest frame before anything else was agreed on: RFC 9113, 4.2.
const FRAME_BYTES_MAX: usize = 16_384;
const READ_BYTES: usize = 4096;

const HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x08;
const FLAG_PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

/// Reads a connection up to its first HEADERS frame, and passes all later bytes through.
pub(crate) struct AuthorityMender(Option<Box<Opening>>);

/// The beginning of a connection.
#[derive(Default)]
struct Opening {
    preface_seen: bool,
    /// Received and not looked at: less than a frame.
    received: BytesMut,
    /// To be handed on.
    ready: BytesMut,
    done: bool,
}

impl AuthorityMender {
    pub(crate) fn new() -> AuthorityMender {
        AuthorityMender(Some(Box::default()))
    }
}

impl ReadFilter for AuthorityMender {
    fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        mut socket: Pin<&mut I>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(opening) = &mut self.0 {
            if !opening.ready.is_empty() {
                let len = opening.ready.len().min(buf.remaining());
                buf.put_slice(&opening.ready.split_to(len));
                return Poll::Ready(Ok(()));
            }
            if opening.done {
                self.0 = None;
                break;
            }
            ready!(opening.poll_receive(socket.as_mut(), cx))?;
        }
        socket.poll_read(cx, buf)
    }
}

impl Opening {
    fn poll_receive<I: AsyncRead + Unpin>(
        &mut self,
        socket: Pin<&mut I>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(socket.poll_read(cx, &mut read))?;
        self.received.extend_from_slice(read.filled());
        if read.filled().is_empty() {
            self.let_go();
        } else {
            self.advance();
        }
        Poll::Ready(Ok(()))
    }

    /// Hands on whole frames, the first HEADERS among them mended.
    fn advance(&mut self) {
        if !self.preface_seen {
            if self.received.len() < PREFACE_BYTES {
                return;
            }
            self.ready.put(self.received.split_to(PREFACE_BYTES));
            self.preface_seen = true;
        }
        while !self.done {
            let Some(head) = FrameHeader::of(&self.received) else {
                return;
            };
            if FRAME_BYTES_MAX < head.payload_bytes {
                // An error, and h2's to report.
                return self.let_go();
            }
            if self.received.len() < HEAD_BYTES + head.payload_bytes {
                return;
            }
            let frame = self.received.split_to(HEAD_BYTES + head.payload_bytes);
            if head.kind == HEADERS {
                self.ready.put(mended(&head, frame.freeze()));
                return self.let_go();
            }
            self.ready.put(frame);
        }
    }

    fn let_go(&mut self) {
        self.ready.put(self.received.split());
        self.done = true;
    }
}

/// A frame header (RFC 9113, 4.1).
struct FrameHeader {
    payload_bytes: usize,
    kind: u8,
    flags: u8,
}

impl FrameHeader {
    fn of(mut received: &[u8]) -> Option<FrameHeader> {
        if received.len() < HEAD_BYTES {
            return None;
        }
        let payload_bytes = usize::try_from(received.get_uint(3)).expect("24 bits");
        Some(FrameHeader {
            payload_bytes,
            kind: received.get_u8(),
            flags: received.get_u8(),
        })
    }
}

/// The frame with an acceptable authority; the same frame when it has one, or when it is not plain
/// to read.
fn mended(head: &FrameHeader, frame: Bytes) -> Bytes {
    if head.flags & FLAG_PADDED != 0 {
        return frame;
    }
    let before = match head.flags & FLAG_PRIORITY {
        0 => HEAD_BYTES,
        _ => HEAD_BYTES + PRIORITY_BYTES,
    };
    let block = frame
        .get(before..)
        .and_then(|block| hpack::replaced(block, AUTHORITY, acceptable));
    let payload_bytes = block.as_ref().map_or(0, BytesMut::len) + before - HEAD_BYTES;
    match block {
        Some(block) if payload_bytes <= FRAME_BYTES_MAX => {
            let mut mended = BytesMut::with_capacity(HEAD_BYTES + payload_bytes);
            mended.put_uint(payload_bytes as u64, 3);
            mended.put_slice(&frame[3..before]);
            mended.put_slice(&block);
            mended.freeze()
        }
        _ => frame,
    }
}

/// A well-formed authority of the same length. `None`: it is well-formed as it is.
fn acceptable(authority: &[u8]) -> Option<Vec<u8>> {
    let controls = authority.iter().any(u8::is_ascii_control);
    // No client sends such a value; h2 refuses it.
    if authority.is_empty() || controls || Authority::try_from(authority).is_ok() {
        return None;
    }
    let plain = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => *byte,
        _ => b'-',
    };
    Some(authority.iter().map(plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_not_acceptable_is_made_so_once(authority: Vec<u8>) {
            if let Some(mended) = acceptable(&authority) {
                proptest::prop_assert_eq!(mended.len(), authority.len());
                proptest::prop_assert_eq!(acceptable(&mended), None);
            }
        }
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![];
        frame.put_uint(payload.len() as u64, 3);
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// However the bytes arrive, the same bytes leave.
    #[track_caller]
    fn check(frames: &[u8], expected: &[u8]) {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let sent = [preface, frames].concat();
        for size in [1, 2, 9, 10, sent.len()] {
            let mut opening = Opening::default();
            let mut arrived = sent.chunks(size);
            for bytes in arrived.by_ref() {
                opening.received.extend_from_slice(bytes);
                opening.advance();
                if opening.done {
                    break;
                }
            }
            opening.let_go();
            let left = [&opening.ready[..], &arrived.collect::<Vec<_>>().concat()].concat();
            assert_eq!(left, [preface, expected].concat(), "in pieces of {size}");
        }
    }

    #[test]
    fn only_a_malformed_authority_in_the_first_headers_is_mended() {
        let settings = frame(4, 0, &[0, 4, 0, 0, 0, 1]);
        let malformed = frame(HEADERS, 4, b"\x83\x41\x04a//b");
        let mended = frame(HEADERS, 4, b"\x83\x41\x04a--b");
        let fine = frame(HEADERS, 4, b"\x83\x41\x04a..b");
        let data = frame(0, 0, b"a//b");
        check(&fine, &fine);
        check(&malformed, &mended);
        let sent = [&settings[..], &malformed, &data, &malformed].concat();
        let expected = [&settings[..], &mended, &data, &malformed].concat();
        check(&sent, &expected);
        let priority = frame(HEADERS, 0x24, b"\0\0\0\0\x10\x41\x04a//b");
        let expected = frame(HEADERS, 0x24, b"\0\0\0\0\x10\x41\x04a--b");
        check(&priority, &expected);
        let padded = frame(HEADERS, 0x0c, b"\x01\x41\x04a//b\0");
        check(&padded, &padded);
        let oversized = [0xff, 0xff, 0xff, HEADERS, 4, 0, 0, 0, 1, 0x41];
        check(&oversized, &oversized);
    }
}
