//! A stream of a session.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

/// Waiting data is joined up to this size.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// The state of a stream.
pub(super) struct Stream<O> {
    pub(super) owner: O,
    /// The send window, less the initial window.
    pub(super) send_window_delta: i64,
    pub(super) pending: VecDeque<BytesMut>,
    /// The size of `pending`.
    pub(super) pending_bytes: usize,
    /// How the stream ends once nothing is pending.
    pub(super) last: Option<Last>,
    /// The stream is in `blocked`.
    pub(super) scheduled: bool,
    /// END_STREAM has been sent: half-closed (local).
    pub(super) ended: bool,
    /// END_STREAM has been received.
    pub(super) half_closed_remote: bool,
    /// The receive window.
    pub(super) recv_window: i64,
    /// Received bytes that have not been forwarded.
    pub(super) unreleased: u32,
    /// Released<O> bytes that no WINDOW_UPDATE has announced.
    pub(super) unannounced: u32,
    /// The position of its first byte in all bytes of the connection.
    pub(super) starts: u64,
    /// When the wait for its answer began.
    pub(super) awaits_response: Option<Instant>,
    /// The charge of its small frames.
    pub(super) charged: u32,
    /// The account of its owner.
    pub(super) account: usize,
    /// It is counted in its client's account.
    pub(super) joined: bool,
}

impl<O> Stream<O> {
    /// Keeps data that cannot be sent now.
    pub(super) fn keep(&mut self, data: &[u8]) {
        self.pending_bytes += data.len();
        match self.pending.back_mut() {
            Some(last) if last.len() + data.len() <= JOINED_BYTES_MAX => {
                last.extend_from_slice(data);
            }
            _ if data.is_empty() => {}
            _ => self.pending.push_back(BytesMut::from(data)),
        }
    }
}

/// The end of a stream.
pub(super) enum Last {
    Data,
    Trailers(Bytes),
}
