//! HTTP/2 frames (RFC 9113, 4 and 6): read from a byte stream, and written.
//!
//! Frames are parsed in the read buffer; only a frame that is split between two reads is copied.

mod payload;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(super) use read::{FrameReader, Partial};
pub(super) use write::{
    extend_data, put_data, put_goaway, put_headers, put_ping, put_rst_stream, put_settings,
    put_settings_ack, put_window_update,
};

/// The client's connection preface (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The size of a frame header (RFC 9113, 4.1).
pub(super) const FRAME_HEADER_BYTES: usize = 9;

/// SETTINGS_MAX_FRAME_SIZE, whose default is used in both directions.
pub(super) const MAX_FRAME_SIZE: usize = 16_384;

/// The largest field block, frame headers included. A field section within bounds is smaller.
const FIELD_BLOCK_BYTES_MAX: usize = 128 * 1024;

/// The initial flow-control window (RFC 9113, 6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// The largest flow-control window (RFC 9113, 6.9.1).
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;

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

/// The settings (RFC 9113, 6.5.2).
pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// An error code (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ErrorCode(pub(super) u32);

impl ErrorCode {
    pub(super) const NO_ERROR: ErrorCode = ErrorCode(0);
    pub(super) const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    pub(super) const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    pub(super) const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    pub(super) const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(4);
    pub(super) const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    pub(super) const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    pub(super) const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    pub(super) const CANCEL: ErrorCode = ErrorCode(8);
    pub(super) const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    pub(super) const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
}

/// A connection error (RFC 9113, 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (HTTP/2 error {})", .code.0)]
pub(super) struct ConnectionError {
    pub(super) code: ErrorCode,
    pub(super) what: &'static str,
}

impl ConnectionError {
    pub(super) fn new(code: ErrorCode, what: &'static str) -> ConnectionError {
        ConnectionError { code, what }
    }

    pub(super) fn protocol(what: &'static str) -> ConnectionError {
        ConnectionError::new(ErrorCode::PROTOCOL_ERROR, what)
    }
}

/// A frame, or a HEADERS frame joined with its CONTINUATION frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Headers {
        stream: u32,
        end: bool,
        block: &'a [u8],
    },
    Data {
        stream: u32,
        end: bool,
        data: &'a [u8],
        /// The bytes that count for the windows, padding included (RFC 9113, 6.9.1).
        flow_controlled_len: u32,
    },
    RstStream {
        stream: u32,
        code: ErrorCode,
    },
    /// An identifier and a value each.
    Settings(Settings<'a>),
    SettingsAck,
    Ping([u8; 8]),
    PingAck([u8; 8]),
    GoAway {
        last: u32,
        code: ErrorCode,
    },
    WindowUpdate {
        stream: u32,
        by: u32,
    },
    /// A frame that is a stream error (RFC 9113, 5.4.2).
    StreamError {
        stream: u32,
    },
    /// A frame without effect: PRIORITY, or an unknown type (RFC 9113, 5.5).
    Ignored,
}

impl Frame<'_> {
    /// Whether the frame belongs to no message, so that a peer can send any number of it.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Frame::SettingsAck | Frame::Ping(_) | Frame::PingAck(_) | Frame::Ignored => true,
            Frame::Data { end, data, .. } => !end && data.is_empty(),
            _ => false,
        }
    }
}

/// The payload of a SETTINGS frame.
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
