//! Small DATA frames on their way to a member.
//!
//! A server may count them against their connection, which all calls to a member share. hyper's h2 (0.4.20)
//! charges a frame of less than 256 bytes that is not its stream's last with the bytes that it lacks,
//! and ends the connection beyond half a window, 512 KiB. A charge is given back when a handler reads the
//! frame, and never when the handler has left its stream. So pieces are joined, and the charges are counted
//! here as if only an answer gave them back.

use bytes::BytesMut;

use super::Stream;
use crate::h2::frame;

/// A frame of less is small.
pub(in crate::h2) const SMALL_BYTES: usize = 256;

/// With this charged to a stream without an answer, its small pieces wait for more.
const STREAM_MAX: u32 = 16 * 1024;

/// With this charged to a connection, the small pieces of all its streams wait for more.
const CHARGED_MAX: u32 = 384 * 1024;

/// With this charged, no new calls are begun on a connection.
const TIRED_FROM: u32 = 128 * 1024;

/// What a connection's small frames may have cost.
#[derive(Default)]
pub(super) struct Pieces {
    /// The other end may count them.
    counted: bool,
    charged: u32,
    tail: Option<Tail>,
}

/// The last frame that is to be sent, where that is data and may grow.
struct Tail {
    stream: u32,
    /// Where its head begins, and where its data ends, in the buffer.
    at: usize,
    end: usize,
}

impl Pieces {
    pub(super) fn counted(counted: bool) -> Pieces {
        Pieces {
            counted,
            ..Pieces::default()
        }
    }

    /// Whether so much data of a stream is to wait for more.
    pub(super) fn hold(&self, known: &Stream, bytes: usize, ends: bool) -> bool {
        let charge = self.charge(bytes, ends);
        charge != 0 && (STREAM_MAX < known.charged + charge || CHARGED_MAX < self.charged + charge)
    }

    fn charge(&self, bytes: usize, ends: bool) -> u32 {
        match self.counted && !ends {
            true => u32::try_from(SMALL_BYTES.saturating_sub(bytes)).unwrap_or(0),
            false => 0,
        }
    }

    /// Writes a frame, or adds to the last one if that is the same stream's.
    pub(super) fn put(
        &mut self,
        out: &mut BytesMut,
        (id, known): (u32, &mut Stream),
        data: &[u8],
        ends: bool,
    ) {
        let tail = self.tail.take().filter(|tail| {
            let joined = tail.end - tail.at - frame::HEAD_BYTES + data.len();
            tail.stream == id && tail.end == out.len() && joined <= frame::FRAME_BYTES_MAX
        });
        let at = match tail {
            Some(tail) => {
                self.give_back(known, tail.end - tail.at - frame::HEAD_BYTES);
                frame::extend_data(out, tail.at, data, ends);
                tail.at
            }
            None => {
                let at = out.len();
                frame::put_data(out, id, data, ends);
                at
            }
        };
        let end = out.len();
        let bytes = end - at - frame::HEAD_BYTES;
        let charge = self.charge(bytes, ends);
        known.charged += charge;
        self.charged += charge;
        if self.counted && SMALL_BYTES <= bytes {
            let by = u32::try_from(bytes - SMALL_BYTES).unwrap_or(0);
            self.charged = self.charged.saturating_sub(by);
        }
        let stream = id;
        self.tail = (self.counted && !ends).then_some(Tail { stream, at, end });
    }

    /// The last frame, of so many bytes, is not what it was.
    fn give_back(&mut self, known: &mut Stream, bytes: usize) {
        let charge = self.charge(bytes, false);
        known.charged = known.charged.saturating_sub(charge);
        self.charged = self.charged.saturating_sub(charge);
    }

    /// What is to be sent has been taken to be written.
    pub(super) fn taken(&mut self) {
        self.tail = None;
    }

    /// The other end has answered on a stream, so that it has read what came before.
    pub(super) fn answered(&mut self, known: &mut Stream) {
        self.charged = self.charged.saturating_sub(known.charged);
        known.charged = 0;
    }

    /// Whether new calls should go elsewhere.
    pub(super) fn is_tired(&self) -> bool {
        TIRED_FROM <= self.charged
    }
}
