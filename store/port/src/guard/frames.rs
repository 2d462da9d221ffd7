//! The position in a client's HTTP/2 frames. Only frame headers are read.

use std::io;

use super::invalid;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(super) const PING: u8 = 6;
pub(super) const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

/// The position in the frames.
pub(super) struct Frames {
    /// Of the preface, still to come.
    pub(super) preface: usize,
    head: [u8; HEAD_BYTES],
    /// How much of the head has come.
    pub(super) known: usize,
    /// Of the payload, still to come.
    pub(super) payload: usize,
    /// The first settings have come.
    greeted: bool,
    /// A block of fields has not ended.
    pub(super) open: bool,
    /// The newest stream of the client.
    pub(super) last_stream: u32,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames {
            preface: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            known: 0,
            payload: 0,
            greeted: false,
            open: false,
            last_stream: 0,
        }
    }
}

/// The frames that are complete.
pub(super) enum Whole {
    Settings,
    /// What belongs to no request.
    Idle,
    /// A PING that is not an acknowledgement; it belongs to no request either.
    Ping,
    Other,
}

impl Frames {
    /// Whether a frame or a field block has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        !self.greeted || self.open || 0 < self.known
    }

    pub(super) fn is_data(&self) -> bool {
        self.known == HEAD_BYTES && self.head[3] == DATA && self.greeted && !self.open
    }

    /// Consumes the bytes that can be consumed. Returns the frames that these complete.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> io::Result<Option<Whole>> {
        if 0 < self.preface {
            self.preface -= skip(bytes, self.preface);
            return Ok(None);
        }
        if self.known < HEAD_BYTES {
            let part = bytes.len().min(HEAD_BYTES - self.known);
            self.head[self.known..self.known + part].copy_from_slice(&bytes[..part]);
            self.known += part;
            *bytes = &bytes[part..];
            if self.known < HEAD_BYTES {
                return Ok(None);
            }
            self.payload = self.length();
            self.check()?;
        }
        self.payload -= skip(bytes, self.payload);
        if 0 < self.payload {
            return Ok(None);
        }
        self.known = 0;
        Ok(Some(self.whole()))
    }

    fn length(&self) -> usize {
        let [first, second, third, ..] = self.head;
        usize::from(first) << 16 | usize::from(second) << 8 | usize::from(third)
    }

    /// RFC 9113, 3.4: a connection begins with SETTINGS, which hyper does not check.
    fn check(&self) -> io::Result<()> {
        let [.., kind, flags, _, _, _, _] = self.head;
        match self.greeted || kind == SETTINGS && flags & ACK == 0 {
            true => Ok(()),
            false => Err(invalid("a connection begins with settings")),
        }
    }

    fn whole(&mut self) -> Whole {
        let [.., kind, flags, first, second, third, fourth] = self.head;
        self.greeted = true;
        match kind {
            HEADERS | CONTINUATION => {
                let stream = u32::from_be_bytes([first & 0x7f, second, third, fourth]);
                self.last_stream = self.last_stream.max(stream);
                self.open = flags & END_HEADERS == 0;
                Whole::Other
            }
            SETTINGS if flags & ACK == 0 => Whole::Settings,
            DATA if flags & END_STREAM != 0 || self.length() != 0 => Whole::Other,
            RST_STREAM | WINDOW_UPDATE => Whole::Other,
            PING if flags & ACK == 0 => Whole::Ping,
            _ => Whole::Idle,
        }
    }
}

fn skip(bytes: &mut &[u8], most: usize) -> usize {
    let part = bytes.len().min(most);
    *bytes = &bytes[part..];
    part
}
