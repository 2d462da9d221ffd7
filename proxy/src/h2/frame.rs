//! HTTP/2 frames (RFC 9113): taken off what arrives, and written.
//!
//! What arrives is looked at where it lies; only what is cut in two by the end of a read is kept.

mod payload;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(super) use read::{Frames, Partial};
pub(super) use write::{
    extend_data, put_data, put_goaway, put_headers, put_ping, put_reset, put_settings,
    put_settings_ack, put_window,
};

/// How a client begins.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Of every frame.
pub(super) const HEAD_BYTES: usize = 9;

/// What we take in one frame, and send while the other end has not said that it takes more.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;

/// A block of compressed fields, with its frames' heads. A list that is within bounds is smaller.
const BLOCK_BYTES_MAX: usize = 128 * 1024;

/// What a window is before anything was agreed on.
pub(super) const WINDOW: u32 = 65_535;

/// The largest window.
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY_FRAME: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

/// Settings by their numbers.
pub(super) mod setting {
    pub(crate) const TABLE_BYTES: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const CONCURRENT_STREAMS_MAX: u16 = 3;
    pub(crate) const INITIAL_WINDOW: u16 = 4;
    pub(crate) const FRAME_BYTES_MAX: u16 = 5;
    pub(crate) const FIELDS_BYTES_MAX: u16 = 6;
}

/// Errors by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) u32);

impl Code {
    pub(super) const NO_ERROR: Code = Code(0);
    pub(super) const PROTOCOL_ERROR: Code = Code(1);
    pub(super) const INTERNAL_ERROR: Code = Code(2);
    pub(super) const FLOW_CONTROL_ERROR: Code = Code(3);
    pub(super) const SETTINGS_TIMEOUT: Code = Code(4);
    pub(super) const STREAM_CLOSED: Code = Code(5);
    pub(super) const FRAME_SIZE_ERROR: Code = Code(6);
    pub(super) const REFUSED_STREAM: Code = Code(7);
    pub(super) const CANCEL: Code = Code(8);
    pub(super) const COMPRESSION_ERROR: Code = Code(9);
    pub(super) const ENHANCE_YOUR_CALM: Code = Code(11);
}

/// What ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (HTTP/2 error {})", .code.0)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) what: &'static str,
}

impl Fault {
    pub(super) fn new(code: Code, what: &'static str) -> Fault {
        Fault { code, what }
    }

    pub(super) fn protocol(what: &'static str) -> Fault {
        Fault::new(Code::PROTOCOL_ERROR, what)
    }
}

/// Something that the other end says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Headers {
        stream: u32,
        end: bool,
        block: &'a [u8],
    },
    Data {
        stream: u32,
        end: bool,
        data: &'a [u8],
        /// Its share of the windows, padding included.
        flow: u32,
    },
    Reset {
        stream: u32,
        code: Code,
    },
    /// A number and a value each.
    Settings(Settings<'a>),
    SettingsAck,
    Ping([u8; 8]),
    Pong([u8; 8]),
    GoAway {
        last: u32,
        code: Code,
    },
    Window {
        stream: u32,
        by: u32,
    },
    /// A frame that is wrong for its stream alone.
    Broken {
        stream: u32,
    },
    /// A frame without effect here: PRIORITY, or an unknown type (RFC 9113, 5.5).
    Nothing,
}

impl Event<'_> {
    /// Whether it is no part of any request or answer, so that there can be any number of it.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Event::SettingsAck | Event::Ping(_) | Event::Pong(_) | Event::Nothing => true,
            Event::Data { end, data, .. } => !end && data.is_empty(),
            _ => false,
        }
    }
}

/// A frame of settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings<'a>(&'a [u8]);

impl Settings<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u32)> + use<'_> {
        self.0.chunks_exact(6).map(|one| {
            let number = u16::from_be_bytes([one[0], one[1]]);
            (number, number_of(&one[2..]))
        })
    }
}

/// The first four bytes as a number.
fn number_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
