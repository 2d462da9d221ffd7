//! A stream of a session.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Owner;

/// Data that waits is joined to what waits already, up to so much.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// What is known of it.
pub(super) struct Stream {
    pub(super) owner: Owner,
    /// What the other end lets us send, beyond the initial window.
    pub(super) difference: i64,
    pub(super) pending: VecDeque<BytesMut>,
    /// How much that is.
    pub(super) pending_bytes: usize,
    /// How we end it once nothing is pending.
    pub(super) last: Option<Last>,
    /// It is in `held_up`.
    pub(super) listed: bool,
    /// We have said all.
    pub(super) ended: bool,
    /// The other end has.
    pub(super) heard_all: bool,
    /// What the other end may still send.
    pub(super) left: i64,
    /// Received and not gone on.
    pub(super) held: u32,
    /// Gone on, and not let in again.
    pub(super) uncredited: u32,
    /// Where it begins among all bytes that are sent.
    pub(super) starts: u64,
    /// Since when its answer is awaited.
    pub(super) awaits: Option<Instant>,
    /// What its small frames may have cost: `Pieces`.
    pub(super) charged: u32,
    /// Whose call it is: the same for all of a client's connection.
    pub(super) client: usize,
    /// It counts for its client's account.
    pub(super) joined: bool,
}

impl Stream {
    /// Data that cannot go now.
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

/// How a stream is ended.
pub(super) enum Last {
    Data,
    Trailers(Bytes),
}
