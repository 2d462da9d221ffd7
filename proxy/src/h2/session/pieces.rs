//! Small DATA frames on their way to a member.
//!
//! A server may count them against their connection, which all calls to a member share. hyper's h2
//! (0.4.20) charges a frame of less than 256 bytes that is not its stream's last with the bytes
//! that it lacks, and ends the connection beyond half a window, 512 KiB. A charge is given back
//! when a handler reads the frame, and never when the handler has left its stream. So pieces are
//! joined, and the charges are counted here as if only an answer gave them back. `accounts` divides
//! them between the clients.

use bytes::BytesMut;

use super::accounts::{Accounts, SHARED_MAX};
use super::{Owner, Stream};
use crate::h2::frame;

/// A frame of less is small.
pub(in crate::h2) const SMALL_BYTES: usize = 256;

/// With this charged to a stream without an answer, its small pieces wait for more.
const STREAM_MAX: u32 = 16 * 1024;

/// With this charged, no new calls are begun on a connection.
const TIRED_FROM: u32 = SHARED_MAX / 3;

/// What a connection's small frames may have cost.
#[derive(Default)]
pub(super) struct Pieces {
    /// The other end may count them.
    counted: bool,
    accounts: Accounts,
    tail: Option<Tail>,
}

/// The last frame that is to be sent, where that is data and may grow.
struct Tail {
    stream: u32,
    /// Where its head begins, and where its data ends, in the buffer.
    at: usize,
    end: usize,
}

/// What a small piece waits for, other than more data of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The answer on its stream.
    Answer,
    /// Its client's share, which falls with every answer.
    Share,
}

impl Pieces {
    pub(super) fn counted(counted: bool) -> Pieces {
        Pieces {
            counted,
            ..Pieces::default()
        }
    }

    /// What so much data of a stream has to wait for, if for anything.
    pub(super) fn hold(&self, known: &Stream, bytes: usize, ends: bool) -> Option<Held> {
        let charge = self.charge(bytes, ends);
        if charge == 0 {
            None
        } else if STREAM_MAX < known.charged + charge {
            Some(Held::Answer)
        } else {
            let fits = self.accounts.have_room(known.client);
            (!fits).then_some(Held::Share)
        }
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
                let before = self.charge(tail.end - tail.at - frame::HEAD_BYTES, false);
                self.accounts.give_back(known, before);
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
            self.count(known, end - at - frame::HEAD_BYTES, ends);
        }
        let stream = id;
        self.tail = (self.counted && !ends).then_some(Tail { stream, at, end });
    }

    /// Counts a frame of so many bytes.
    fn count(&mut self, known: &mut Stream, bytes: usize, ends: bool) {
        let charge = self.charge(bytes, ends);
        let is_much = charge != 0 && self.accounts.charge(known, charge);
        if is_much && let Owner::Member(call) = &known.owner {
            call.leave_shared();
        }
        if SMALL_BYTES <= bytes {
            self.accounts
                .made_up(u32::try_from(bytes - SMALL_BYTES).unwrap_or(0));
        }
    }

    /// A stream has begun and has not been ended by us.
    pub(super) fn begun(&mut self, known: &mut Stream) {
        if self.counted {
            self.accounts.join(known);
        }
    }

    /// A stream has ended.
    pub(super) fn ended(&mut self, id: u32, known: &Stream) {
        self.accounts.leave(id, known);
    }

    /// A stream's data waits for its client's share.
    pub(super) fn keep_back(&mut self, id: u32, known: &mut Stream) {
        self.accounts.keep_back(id, known);
    }

    /// The streams that need not wait for their client's share any more.
    pub(super) fn released(&mut self) -> Vec<u32> {
        self.accounts.released()
    }

    /// Whether `released` may have some.
    pub(super) fn may_release(&self) -> bool {
        self.accounts.may_release()
    }

    /// What is to be sent has been taken to be written.
    pub(super) fn taken(&mut self) {
        self.tail = None;
    }

    /// The other end has answered on a stream, so that it has read what came before.
    pub(super) fn answered(&mut self, known: &mut Stream) {
        self.accounts.give_back(known, known.charged);
    }

    /// Whether new calls should go elsewhere.
    pub(super) fn is_tired(&self) -> bool {
        TIRED_FROM <= self.accounts.charged()
    }
}
