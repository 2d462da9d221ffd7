//! Data on its way out: as much as the windows and the buffer let pass.

use bytes::{Buf, BytesMut};

use super::pieces::Pieces;
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
        loop {
            let rest = &data[gone..];
            let room = UNSENT_BYTES_MAX.saturating_sub(self.out.len());
            let window = (self.initial + known.difference).min(*self.window);
            let window = usize::try_from(window).unwrap_or(0);
            let part = rest.len().min(room).min(window).min(frame::FRAME_BYTES_MAX);
            let ends = last && part == rest.len();
            if part == 0 && !ends || self.pieces.hold(known, part, ends) {
                return gone;
            }
            self.pieces
                .put(self.out, (id, &mut *known), &rest[..part], ends);
            gone += part;
            known.difference -= part as i64;
            *self.window -= part as i64;
            known.ended = ends;
            if gone == data.len() {
                return gone;
            }
        }
    }

    /// Whether the other end lets us send on the stream.
    pub(super) fn has_window(&self, known: &Stream) -> bool {
        0 < self.initial + known.difference
    }

    /// Whether some of what waits is worth a frame.
    pub(super) fn lets_pass(&self, known: &Stream) -> bool {
        let first = known.pending.front().map_or(0, BytesMut::len);
        let ends = known.pending.len() == 1 && matches!(known.last, Some(Last::Data));
        !self.pieces.hold(known, first, ends)
    }

    pub(super) fn send_pending(&mut self, id: u32, known: &mut Stream) -> usize {
        let mut gone = 0;
        while let Some(mut part) = known.pending.pop_front() {
            let last = known.pending.is_empty() && matches!(known.last, Some(Last::Data));
            let sent = self.send(id, known, &part, last);
            gone += sent;
            part.advance(sent);
            if !part.is_empty() {
                known.pending.push_front(part);
                return gone;
            }
        }
        if let Some(Last::Trailers(block)) = known.last.take() {
            frame::put_headers(self.out, id, [&block, &[]], true);
            known.ended = true;
        }
        gone
    }
}
