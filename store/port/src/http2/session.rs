//! The state of an HTTP/2 connection: its write buffer, its windows, its streams.
//!
//! The driver owns the socket. The tasks of other connections put frames into the write buffer, so
//! that all that gathers between two polls of the driver is one write. Nothing here waits. Data
//! that a window does not admit stays with its stream, and the window of its sender is opened again
//! only when the data has been sent.
//!
//! A session is generic in the owner of its streams, which the application defines. No lock of
//! another session may be taken in the owner's methods: some of them run while this session is
//! locked.

mod accounts;
mod data_writer;
mod ends;
mod flow;
mod life;
mod owner;
mod recently_closed;
mod resets;
mod small_frames;
mod state;
mod stream;
mod streams;
mod windows;

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::frame::{
    self, ConnectionError, DEFAULT_WINDOW, ErrorCode, MAX_WINDOW, Settings, setting,
};
pub use owner::Owner;
use recently_closed::RecentlyClosed;
use resets::PendingResets;
pub use small_frames::SMALL_BYTES;
use small_frames::SmallFrames;
use stream::{Last, Stream};
use windows::SendWindows;

/// With more bytes in the write buffer, data waits with its stream, and frames that may need an
/// answer are not read.
const OUT_BYTES_HIGH: usize = 64 * 1024;

/// The default SETTINGS_HEADER_TABLE_SIZE. The encoder uses no table; if the peer allows a smaller
/// one, a table size update has to be sent (RFC 7541, 4.2).
const TABLE_BYTES: u32 = 4096;

/// The number of streams that are opened before the peer's SETTINGS have come.
const STREAMS_BEFORE_SETTINGS: usize = 1000;

/// With more bytes in the write buffer, no stream is opened.
const OUT_BYTES_MAX: usize = 1024 * 1024;

/// A larger buffer is freed when it is empty.
const KEPT_BYTES: usize = 4 * 1024;

/// The local role on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer is a client.
    Server,
    /// The peer is a server.
    Client,
}

/// Waiting data that has been sent, by owner: its sender may send as much again.
pub type Released<O> = Vec<(O, usize)>;

/// The shared state of a connection.
pub struct Session<O> {
    role: Role,
    /// The sizes of the receive windows: of a stream, and of the connection.
    windows: [u32; 2],
    /// The fields that every request begins with.
    prefix: Bytes,
    state: Mutex<State<O>>,
}

struct State<O> {
    out: BytesMut,
    /// The waker of the driver while it sleeps.
    waker: Option<Waker>,
    /// The send window of the connection.
    window: i64,
    /// The send windows of the streams.
    windows: SendWindows,
    streams_max: usize,
    /// The peer's SETTINGS have come.
    settings_received: bool,
    streams: HashMap<u32, Stream<O>>,
    /// Streams whose data waits for the connection's window or for room in the buffer.
    blocked: VecDeque<u32>,
    /// The receive window of the connection.
    recv_window: i64,
    /// Bytes that are released and not announced by a WINDOW_UPDATE yet.
    unannounced: u32,
    /// The peer has reduced the table size: an update has to be sent once.
    table_size_reduced: bool,
    small_frames: SmallFrames,
    resets: PendingResets,
    recent: RecentlyClosed,
    next_stream: u32,
    /// The number of own streams whose answer has not begun.
    awaiting_response: usize,
    /// No new streams are opened or accepted.
    closing: bool,
    closed: bool,
    /// The totals of bytes that the driver has taken, and that it has written.
    taken: u64,
    written: u64,
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStream {
    /// The connection has ended or is shutting down.
    Closed,
    /// The peer takes no more streams for now.
    Full,
}

impl<O: Owner> Session<O> {
    /// A session with its receive windows (of a stream, and of the connection) and the field block
    /// that every request begins with.
    pub fn new(role: Role, windows: [u32; 2], prefix: Bytes) -> Session<O> {
        Session {
            role,
            windows,
            prefix,
            state: Mutex::new(State {
                out: BytesMut::new(),
                waker: None,
                window: i64::from(DEFAULT_WINDOW),
                windows: SendWindows::default(),
                streams_max: STREAMS_BEFORE_SETTINGS,
                settings_received: false,
                streams: HashMap::new(),
                blocked: VecDeque::new(),
                recv_window: i64::from(windows[1]),
                unannounced: 0,
                table_size_reduced: false,
                small_frames: SmallFrames::counted(role == Role::Client),
                resets: PendingResets::default(),
                recent: RecentlyClosed::default(),
                next_stream: 1,
                awaiting_response: 0,
                closing: false,
                closed: false,
                taken: 0,
                written: 0,
            }),
        }
    }

    /// Writes a frame other than DATA into the buffer.
    pub fn put(&self, put: impl FnOnce(&mut BytesMut)) {
        self.state.lock().put(put);
    }

    /// Whether the buffer has room for answers to frames that are read.
    pub fn has_room(&self) -> bool {
        // A client always reads answers; otherwise both ends could wait for each other.
        self.role == Role::Client || self.state.lock().out.len() < OUT_BYTES_HIGH
    }

    /// Exchanges the write buffer for an empty one. If there is nothing to send, `waker` is woken
    /// once there is.
    pub fn take(&self, buffer: &mut BytesMut, waker: &Waker) -> Released<O> {
        debug_assert!(buffer.is_empty(), "it is lost");
        let mut state = self.state.lock();
        let mut released = self.send_blocked(&mut state);
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
            state.small_frames.taken();
            // Blocked streams get the room before new data does.
            released.extend(self.send_blocked(&mut state));
        }
        released
    }

    /// Counts bytes that the socket has taken.
    pub fn wrote(&self, bytes: usize) {
        self.state.lock().written += bytes as u64;
    }
}

#[cfg(test)]
mod tests;
