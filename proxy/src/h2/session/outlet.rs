//! Data on its way out: as much as the windows and the buffer let pass.

use bytes::{Buf, BytesMut};

use super::pieces::{Held, Pieces};
use super::{Last, Stream, UNSENT_BYTES_MAX};
use crate::h2::frame;

/// What all data goes through.
pub(super) struct Outlet<'a> {
    pub(super) out: &'a mut BytesMut,
    pub(super) window: &'a mut i64,
    /// What a stream's window is without its difference.
    pub(super) initial: i64,
    pub(super) pieces: &'a mut Pieces,
}

impl Outlet<'_> {
    /// Sends what may go. Returns how much that is.
    pub(super) fn send(&mut self, id: u32, known: &mut Stream, data: &[u8], last: bool) -> usize {
        let mut gone = 0;
        while let Some((part, ends)) = self.next(known, data.len() - gone, last) {
            self.put(id, known, &data[gone..gone + part], ends);
            gone += part;
            if gone == data.len() {
                break;
            }
        }
        gone
    }

    /// How much may go in one frame where so much is to be sent, and whether that ends the stream.
    /// `None`: nothing for now.
    fn next(&self, known: &Stream, bytes: usize, last: bool) -> Option<(usize, bool)> {
        let room = UNSENT_BYTES_MAX.saturating_sub(self.out.len());
        let window = (self.initial + known.difference).min(*self.window);
        let window = usize::try_from(window).unwrap_or(0);
        let part = bytes.min(room).min(window).min(frame::FRAME_BYTES_MAX);
        let ends = last && part == bytes;
        let waits = part == 0 && !ends || self.pieces.hold(known, part, ends).is_some();
        (!waits).then_some((part, ends))
    }

    fn put(&mut self, id: u32, known: &mut Stream, data: &[u8], ends: bool) {
        self.pieces.put(self.out, (id, &mut *known), data, ends);
        known.difference -= data.len() as i64;
        *self.window -= data.len() as i64;
        known.ended = ends;
    }

    /// Whether the other end lets us send on the stream.
    pub(super) fn has_window(&self, known: &Stream) -> bool {
        0 < self.initial + known.difference
    }

    /// What holds the data that waits, though the other end takes it.
    pub(super) fn held(&self, known: &Stream) -> Option<Held> {
        let bytes = known.pending_bytes.min(frame::FRAME_BYTES_MAX);
        let ends = bytes == known.pending_bytes && matches!(known.last, Some(Last::Data));
        self.pieces.hold(known, bytes, ends)
    }

    pub(super) fn send_pending(&mut self, id: u32, known: &mut Stream) -> usize {
        let mut gone = 0;
        while 0 < known.pending_bytes {
            let last = matches!(known.last, Some(Last::Data));
            let Some((part, ends)) = self.next(known, known.pending_bytes, last) else {
                return gone;
            };
            self.put_pending(id, known, part, ends);
            gone += part;
        }
        if let Some(Last::Trailers(block)) = known.last.take() {
            frame::put_headers(self.out, id, [&block, &[]], true);
            known.ended = true;
        }
        gone
    }

    /// Sends so much of what waits, in as few frames as may be.
    fn put_pending(&mut self, id: u32, known: &mut Stream, mut bytes: usize, ends: bool) {
        while 0 < bytes
            && let Some(mut part) = known.pending.pop_front()
        {
            let length = part.len().min(bytes);
            bytes -= length;
            known.pending_bytes -= length;
            self.put(id, known, &part[..length], ends && bytes == 0);
            part.advance(length);
            if !part.is_empty() {
                // Without the room of what has gone, which is not counted.
                if part.len() < length {
                    part = BytesMut::from(&part[..]);
                }
                known.pending.push_front(part);
            }
        }
    }
}
