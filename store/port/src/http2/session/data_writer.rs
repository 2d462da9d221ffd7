//! Writes DATA as far as the windows and the buffer admit it.

use bytes::{Buf, BytesMut};

use super::small_frames::{BlockedOn, SmallFrames};
use super::{Last, OUT_BYTES_HIGH, Owner, Stream};
use crate::http2::frame;

/// The parts of a session that a DATA frame is checked against.
pub(super) struct DataWriter<'a> {
    pub(super) out: &'a mut BytesMut,
    pub(super) window: &'a mut i64,
    /// The initial send window of streams.
    pub(super) initial: i64,
    pub(super) small_frames: &'a mut SmallFrames,
}

impl DataWriter<'_> {
    /// Sends as much of `data` as possible. Returns the number of bytes.
    pub(super) fn send<O: Owner>(
        &mut self,
        id: u32,
        entry: &mut Stream<O>,
        data: &[u8],
        last: bool,
    ) -> usize {
        let mut gone = 0;
        while let Some((part, ends)) = self.next(entry, data.len() - gone, last) {
            self.put(id, entry, &data[gone..gone + part], ends);
            gone += part;
            if gone == data.len() {
                break;
            }
        }
        gone
    }

    /// The size of the next frame, and whether it ends the stream. `None`: none can be sent now.
    fn next<O: Owner>(&self, entry: &Stream<O>, bytes: usize, last: bool) -> Option<(usize, bool)> {
        let room = OUT_BYTES_HIGH.saturating_sub(self.out.len());
        let window = (self.initial + entry.send_window_delta).min(*self.window);
        let window = usize::try_from(window).unwrap_or(0);
        let part = bytes.min(room).min(window).min(frame::MAX_FRAME_SIZE);
        let ends = last && part == bytes;
        let waits = part == 0 && !ends || self.small_frames.blocked_on(entry, part, ends).is_some();
        (!waits).then_some((part, ends))
    }

    fn put<O: Owner>(&mut self, id: u32, entry: &mut Stream<O>, data: &[u8], ends: bool) {
        self.small_frames
            .put(self.out, (id, &mut *entry), data, ends);
        entry.send_window_delta -= data.len() as i64;
        *self.window -= data.len() as i64;
        entry.ended = ends;
    }

    /// Whether the stream's send window is open.
    pub(super) fn has_window<O: Owner>(&self, entry: &Stream<O>) -> bool {
        0 < self.initial + entry.send_window_delta
    }

    /// What blocks the waiting data, although the window is open.
    pub(super) fn held<O: Owner>(&self, entry: &Stream<O>) -> Option<BlockedOn> {
        let bytes = entry.pending_bytes.min(frame::MAX_FRAME_SIZE);
        let ends = bytes == entry.pending_bytes && matches!(entry.last, Some(Last::Data));
        self.small_frames.blocked_on(entry, bytes, ends)
    }

    pub(super) fn send_pending<O: Owner>(&mut self, id: u32, entry: &mut Stream<O>) -> usize {
        let mut gone = 0;
        while 0 < entry.pending_bytes {
            let last = matches!(entry.last, Some(Last::Data));
            let Some((part, ends)) = self.next(entry, entry.pending_bytes, last) else {
                return gone;
            };
            self.put_pending(id, entry, part, ends);
            gone += part;
        }
        if let Some(Last::Trailers(block)) = entry.last.take() {
            frame::put_headers(self.out, id, [&block, &[]], true);
            entry.ended = true;
        }
        gone
    }

    /// Sends so many of the waiting bytes, in as few frames as possible.
    fn put_pending<O: Owner>(
        &mut self,
        id: u32,
        entry: &mut Stream<O>,
        mut bytes: usize,
        ends: bool,
    ) {
        while 0 < bytes
            && let Some(mut part) = entry.pending.pop_front()
        {
            let length = part.len().min(bytes);
            bytes -= length;
            entry.pending_bytes -= length;
            self.put(id, entry, &part[..length], ends && bytes == 0);
            part.advance(length);
            if !part.is_empty() {
                // Copied, as the capacity of the sent part is not counted.
                if part.len() < length {
                    part = BytesMut::from(&part[..]);
                }
                entry.pending.push_front(part);
            }
        }
    }
}
