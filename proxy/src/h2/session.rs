//! An HTTP/2 connection as all its users see it: what is to be sent, the windows, the streams.
//!
//! The task that has the socket (`driver`) reads and writes; answers and calls of other connections
//! are put in here by the tasks that they come from, so that whatever gathers between two turns of
//! the task goes out in one write. Nothing here waits: what a window does not let pass stays with
//! its stream, and the sender's own window is opened again only when it has gone.
//!
//! No lock of another connection or call is taken under this one's.

mod accounts;
mod ends;
mod flow;
mod life;
mod outlet;
mod pieces;
mod recent;
mod resets;
mod share;
mod state;
mod stream;
mod streams;
mod windows;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::call::Call;
use super::frame::{self, Code, Fault, Settings, WINDOW, WINDOW_MAX, setting};
use super::other::Other;
use pieces::Pieces;
pub(super) use pieces::SMALL_BYTES;
use recent::Recent;
use resets::Resets;
pub(super) use share::Share;
use stream::{Last, Stream};
use windows::Windows;

/// With more than this to be sent, data waits with its stream, and nothing is read that may have to
/// be answered.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Of compression, unless the other end's settings differ. None is used here, which must be written
/// if they allow less.
const TABLE_BYTES: u32 = 4096;

/// Streams that are begun at a member before it has said how many it takes.
const STREAMS_BEFORE_SETTINGS: usize = 1000;

/// With more than this, nothing new is begun.
const OUT_BYTES_MAX: usize = 1024 * 1024;

/// A larger buffer is not kept when it is empty.
const KEPT_BYTES: usize = 4 * 1024;

/// At which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A client has made it, for calls.
    Server,
    /// We have made it, to a member.
    Client,
}

/// Whose a stream is.
#[derive(Clone)]
pub(super) enum Owner {
    /// A call, seen from its client.
    Client(Arc<Call>),
    /// A call, seen from the member that answers it.
    Member(Arc<Call>),
    /// A request that is not a call.
    Other(Arc<Other>),
}

/// Data that had to wait has gone, so that its sender may send as much again.
pub(super) type Flowed = Vec<(Owner, usize)>;

/// A connection's shared half.
pub(crate) struct Session {
    end: End,
    /// What the other end may send on a stream, before it is let in again; and in all.
    windows: [u32; 2],
    /// The fields that every call begins with here.
    prefix: Bytes,
    /// What a client takes of the members' connections.
    pub(super) share: Share,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    out: BytesMut,
    /// The driver's, when it sleeps.
    waker: Option<Waker>,
    /// What the other end lets us send in all.
    window: i64,
    /// The same of streams.
    windows: Windows,
    streams_max: usize,
    /// The other end's settings have come.
    agreed: bool,
    streams: HashMap<u32, Stream>,
    /// Streams whose data waits for something that is not their own window.
    held_up: VecDeque<u32>,
    /// What the other end may still send in all.
    left: i64,
    /// Received and gone on, and not let in again yet.
    uncredited: u32,
    /// The other end's settings allow a smaller table: that none is used has to be written once.
    shrunk: bool,
    pieces: Pieces,
    resets: Resets,
    recent: Recent,
    next_stream: u32,
    /// Calls whose answer has not begun.
    awaiting: usize,
    /// There will be no new streams.
    closing: bool,
    closed: bool,
    /// Bytes that the driver has taken, and that the kernel has got, ever.
    taken: u64,
    written: u64,
}

/// Why a call cannot be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoStream {
    /// The connection has ended, or is about to.
    Closed,
    /// The other end takes no more for now.
    Full,
}

impl Session {
    pub(super) fn new(end: End, windows: [u32; 2], prefix: Bytes) -> Session {
        Session {
            end,
            windows,
            prefix,
            share: Share::default(),
            state: Mutex::new(State {
                pieces: Pieces::counted(end == End::Client),
                window: i64::from(WINDOW),
                streams_max: STREAMS_BEFORE_SETTINGS,
                left: i64::from(windows[1]),
                next_stream: 1,
                ..State::default()
            }),
        }
    }

    /// Sends something that belongs to no stream's data.
    pub(super) fn put(&self, put: impl FnOnce(&mut BytesMut)) {
        self.state.lock().put(put);
    }

    /// Whether there is room for what may have to be said to what is read.
    pub(super) fn has_room(&self) -> bool {
        // Members send answers; were they not read, both ends could wait for each other.
        self.end == End::Client || self.state.lock().out.len() < UNSENT_BYTES_MAX
    }

    /// Takes what is to be sent, in exchange for an empty buffer. When there is nothing, the waker
    /// is woken as soon as there is.
    pub(super) fn take(&self, buffer: &mut BytesMut, waker: &Waker) -> Flowed {
        debug_assert!(buffer.is_empty(), "it is lost");
        let mut state = self.state.lock();
        let mut flowed = self.pump(&mut state);
        if state.out.is_empty() {
            state.waker = Some(waker.clone());
            for kept in [buffer, &mut state.out] {
                if KEPT_BYTES < kept.capacity() {
                    *kept = BytesMut::new();
                }
            }
        } else {
            state.taken += state.out.len() as u64;
            std::mem::swap(&mut state.out, buffer);
            state.pieces.taken();
            // Now that there is room, before others take it.
            flowed.extend(self.pump(&mut state));
        }
        flowed
    }

    /// The kernel has got so much.
    pub(super) fn wrote(&self, bytes: usize) {
        self.state.lock().written += bytes as u64;
    }
}

#[cfg(test)]
mod tests;
