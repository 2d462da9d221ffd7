//! Small DATA frames to a server.
//!
//! A server may count them against the connection, which the calls of many clients share. hyper's
//! h2 (0.4.20) charges a frame of less than 256 bytes that is not the last of its stream with the
//! bytes that it lacks. It ends the connection beyond half a window, 512 KiB. It refunds a charge
//! when the handler reads the frame, and never if the handler has left the stream. Therefore small
//! frames are joined, and the charges are counted here as if only an answer refunded them.
//! `accounts` divides the budget between the clients.

use bytes::BytesMut;

use super::accounts::{Accounts, SHARED_MAX};
use super::{Owner, Stream};
use crate::http2::frame;

/// A frame with fewer bytes is small.
pub const SMALL_BYTES: usize = 256;

/// With a higher charge, a stream without an answer waits until its data fills a frame.
const STREAM_MAX: u32 = 16 * 1024;

/// With this charge, no new streams are opened on a connection.
const TIRED_FROM: u32 = SHARED_MAX / 3;

/// The cost of a connection's small frames.
#[derive(Default)]
pub(super) struct SmallFrames {
    /// The peer may count small frames.
    counted: bool,
    accounts: Accounts,
    tail: Option<Tail>,
}

/// The last frame in the write buffer, if it is DATA that may grow.
struct Tail {
    stream: u32,
    /// The positions of its frame header and of its end in the buffer.
    at: usize,
    end: usize,
}

/// What a small frame waits for, unless more data of its stream comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockedOn {
    /// The answer of its stream.
    Answer,
    /// The budget of its client, which is refunded by answers.
    ClientQuota,
}

impl SmallFrames {
    pub(super) fn counted(counted: bool) -> SmallFrames {
        SmallFrames {
            counted,
            ..SmallFrames::default()
        }
    }

    /// What a frame of so many bytes has to wait for.
    pub(super) fn blocked_on<O: Owner>(
        &self,
        entry: &Stream<O>,
        bytes: usize,
        ends: bool,
    ) -> Option<BlockedOn> {
        let charge = self.charge(bytes, ends);
        if charge == 0 {
            None
        } else if STREAM_MAX < entry.charged + charge {
            Some(BlockedOn::Answer)
        } else {
            let fits = self.accounts.have_room(entry.account);
            (!fits).then_some(BlockedOn::ClientQuota)
        }
    }

    fn charge(&self, bytes: usize, ends: bool) -> u32 {
        match self.counted && !ends {
            true => u32::try_from(SMALL_BYTES.saturating_sub(bytes)).unwrap_or(0),
            false => 0,
        }
    }

    /// Writes a frame, or appends to the last one if that is of the same stream.
    pub(super) fn put<O: Owner>(
        &mut self,
        out: &mut BytesMut,
        (id, entry): (u32, &mut Stream<O>),
        data: &[u8],
        ends: bool,
    ) {
        let tail = self.tail.take().filter(|tail| {
            let joined = tail.end - tail.at - frame::FRAME_HEADER_BYTES + data.len();
            tail.stream == id && tail.end == out.len() && joined <= frame::MAX_FRAME_SIZE
        });
        let at = match tail {
            Some(tail) => {
                let before = self.charge(tail.end - tail.at - frame::FRAME_HEADER_BYTES, false);
                self.accounts.give_back(entry, before);
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
        if self.counted {
            self.count(entry, end - at - frame::FRAME_HEADER_BYTES, ends);
        }
        let stream = id;
        self.tail = (self.counted && !ends).then_some(Tail { stream, at, end });
    }

    /// Charges a frame of so many bytes.
    fn count<O: Owner>(&mut self, entry: &mut Stream<O>, bytes: usize, ends: bool) {
        let charge = self.charge(bytes, ends);
        let is_much = charge != 0 && self.accounts.charge(entry, charge);
        if is_much {
            entry.owner.uses_much();
        }
        if SMALL_BYTES <= bytes {
            self.accounts
                .made_up(u32::try_from(bytes - SMALL_BYTES).unwrap_or(0));
        }
    }

    /// A stream has been opened whose request has not ended.
    pub(super) fn begun<O: Owner>(&mut self, entry: &mut Stream<O>) {
        if self.counted {
            self.accounts.join(entry);
        }
    }

    /// A stream has ended.
    pub(super) fn ended<O: Owner>(&mut self, id: u32, entry: &Stream<O>) {
        self.accounts.leave(id, entry);
    }

    /// A stream waits for the budget of its client.
    pub(super) fn keep_back<O: Owner>(&mut self, id: u32, entry: &mut Stream<O>) {
        self.accounts.keep_back(id, entry);
    }

    /// The streams that need not wait for their client's budget any more.
    pub(super) fn released(&mut self) -> Vec<u32> {
        self.accounts.released()
    }

    /// Whether `released` may return streams.
    pub(super) fn may_release(&self) -> bool {
        self.accounts.may_release()
    }

    /// The write buffer has been taken by the driver.
    pub(super) fn taken(&mut self) {
        self.tail = None;
    }

    /// The peer has answered on a stream, so it has read the frames before.
    pub(super) fn answered<O: Owner>(&mut self, entry: &mut Stream<O>) {
        self.accounts.give_back(entry, entry.charged);
    }

    /// Whether new streams should be opened on another connection.
    pub(super) fn is_tired(&self) -> bool {
        TIRED_FROM <= self.accounts.charged()
    }
}
