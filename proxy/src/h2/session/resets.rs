//! Streams of a member that are given up.
//!
//! A server ends a connection on which too many streams are reset before it has looked at them
//! (CVE-2023-44487; a member bears 4,096), and all clients' calls share it. So after some resets the member is
//! asked, by a frame of settings without any, to acknowledge what it has read; the next ones wait for that.

use bytes::BytesMut;

use crate::h2::frame::{self, Code};

/// Resets of which it is not known that the member has read them.
const UNREAD_MAX: u32 = 1000;

/// With this many, it is asked.
const ASK_FROM: u32 = UNREAD_MAX / 2;

#[derive(Default)]
pub(super) struct Resets {
    /// Sent and perhaps not read.
    unread: u32,
    /// How many of those went before the question that is to be answered.
    asked: Option<u32>,
    /// The settings that a connection begins with are acknowledged.
    greeted: bool,
    /// Streams whose resets wait.
    waiting: Vec<u32>,
}

impl Resets {
    /// Gives a stream up as soon as that may be.
    pub(super) fn put(&mut self, out: &mut BytesMut, stream: u32) {
        if UNREAD_MAX <= self.unread {
            self.waiting.push(stream);
            return;
        }
        frame::put_reset(out, stream, Code::CANCEL);
        self.unread += 1;
        if ASK_FROM <= self.unread && self.asked.is_none() {
            frame::put_settings(out, &[]);
            self.asked = Some(self.unread);
        }
    }

    /// The member has acknowledged settings.
    pub(super) fn acknowledged(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.greeted, true) {
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

    /// Streams that are still the member's.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
