//! Resets of own streams.
//!
//! A server ends a connection with too many streams that were reset before it accepted them
//! (CVE-2023-44487; hyper's bound for a member is 4,096). A proxy's connection carries the calls of
//! all clients. After some resets an empty SETTINGS frame is sent; its acknowledgement proves that
//! the server has read them. Further resets wait for it.

use bytes::BytesMut;

use crate::http2::frame::{self, ErrorCode};

/// The bound of resets that the peer may not have read.
const UNREAD_MAX: u32 = 1000;

/// With so many, SETTINGS are sent.
const ASK_FROM: u32 = UNREAD_MAX / 2;

#[derive(Default)]
pub(super) struct PendingResets {
    /// The resets that are sent and perhaps not read.
    unread: u32,
    /// How many of them were sent before the SETTINGS that are unacknowledged.
    asked: Option<u32>,
    /// The first SETTINGS are acknowledged.
    settings_received: bool,
    /// The streams whose resets wait.
    waiting: Vec<u32>,
}

impl PendingResets {
    /// Resets a stream now or as soon as allowed.
    pub(super) fn put(&mut self, out: &mut BytesMut, stream: u32) {
        if UNREAD_MAX <= self.unread {
            self.waiting.push(stream);
            return;
        }
        frame::put_rst_stream(out, stream, ErrorCode::CANCEL);
        self.unread += 1;
        if ASK_FROM <= self.unread && self.asked.is_none() {
            frame::put_settings(out, &[]);
            self.asked = Some(self.unread);
        }
    }

    /// A SETTINGS acknowledgement was received.
    pub(super) fn recv_settings_ack(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.settings_received, true) {
            return;
        }
        let Some(read) = self.asked.take() else {
            return;
        };
        self.unread -= read;
        let room = usize::try_from(UNREAD_MAX - self.unread).unwrap_or(0);
        let kept = self.waiting.len().saturating_sub(room);
        for stream in self.waiting.split_off(kept) {
            self.put(out, stream);
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }

    /// The number of streams that are still open at the peer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
