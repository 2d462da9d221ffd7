//! HTTP/2 frames (RFC 9113, 4 and 6): read from a byte stream, and written.
//!
//! Frames are parsed in the read buffer; only a frame that is split between two reads is copied.

mod payload;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{FrameReader, Partial};
pub(super) use write::extend_data;
pub use write::{
    put_data, put_goaway, put_headers, put_ping, put_rst_stream, put_settings, put_settings_ack,
    put_window_update,
};

/// The client's connection preface (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The size of a frame header (RFC 9113, 4.1).
pub const FRAME_HEADER_BYTES: usize = 9;

/// SETTINGS_MAX_FRAME_SIZE, whose default is used in both directions.
pub const MAX_FRAME_SIZE: usize = 16_384;

/// The largest field block, frame headers included. A field section within bounds is smaller.
const FIELD_BLOCK_BYTES_MAX: usize = 128 * 1024;

/// The initial flow-control window (RFC 9113, 6.9.2).
pub const DEFAULT_WINDOW: u32 = 65_535;

/// The largest flow-control window (RFC 9113, 6.9.1).
pub const MAX_WINDOW: i64 = (1 << 31) - 1;

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
pub mod setting {
    /// SETTINGS_HEADER_TABLE_SIZE, in bytes.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// SETTINGS_ENABLE_PUSH, 0 or 1.
    pub const ENABLE_PUSH: u16 = 2;
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// SETTINGS_INITIAL_WINDOW_SIZE, in bytes.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// SETTINGS_MAX_FRAME_SIZE, in bytes.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// SETTINGS_MAX_HEADER_LIST_SIZE, in bytes.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// An error code (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Graceful shutdown.
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    /// Protocol error detected.
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    /// Implementation fault.
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    /// Flow-control limits exceeded.
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    /// Settings not acknowledged.
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(4);
    /// Frame received for closed stream.
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    /// Frame size incorrect.
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    /// Stream not processed.
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    /// Stream cancelled.
    pub const CANCEL: ErrorCode = ErrorCode(8);
    /// Compression state not updated.
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    /// Processing capacity exceeded.
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
}

/// A connection error (RFC 9113, 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (HTTP/2 error {})", .code.0)]
pub struct ConnectionError {
    /// The code for GOAWAY.
    pub code: ErrorCode,
    /// The debug data for GOAWAY.
    pub reason: &'static str,
}

impl ConnectionError {
    /// An error of any code.
    pub fn new(code: ErrorCode, reason: &'static str) -> ConnectionError {
        ConnectionError { code, reason }
    }

    /// A PROTOCOL_ERROR.
    pub fn protocol(reason: &'static str) -> ConnectionError {
        ConnectionError::new(ErrorCode::PROTOCOL_ERROR, reason)
    }
}

/// A frame, or a HEADERS frame joined with its CONTINUATION frames.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// HEADERS and CONTINUATION (RFC 9113, 6.2 and 6.10).
    Headers {
        /// The stream.
        stream: u32,
        /// END_STREAM.
        end: bool,
        /// The field block.
        block: &'a [u8],
    },
    /// DATA (RFC 9113, 6.1).
    Data {
        /// The stream.
        stream: u32,
        /// END_STREAM.
        end: bool,
        /// The data without padding.
        data: &'a [u8],
        /// The bytes that count for the windows, padding included (RFC 9113, 6.9.1).
        flow_controlled_len: u32,
    },
    /// RST_STREAM (RFC 9113, 6.4).
    RstStream {
        /// The stream.
        stream: u32,
        /// The error code.
        code: ErrorCode,
    },
    /// SETTINGS (RFC 9113, 6.5).
    Settings(Settings<'a>),
    /// SETTINGS with ACK.
    SettingsAck,
    /// PING (RFC 9113, 6.7).
    Ping([u8; 8]),
    /// PING with ACK.
    PingAck([u8; 8]),
    /// GOAWAY (RFC 9113, 6.8).
    GoAway {
        /// The last stream that was or may be processed.
        last: u32,
        /// The error code.
        code: ErrorCode,
    },
    /// WINDOW_UPDATE (RFC 9113, 6.9).
    WindowUpdate {
        /// The stream; 0: the connection.
        stream: u32,
        /// The window size increment, in bytes.
        increment: u32,
    },
    /// A frame that is a stream error (RFC 9113, 5.4.2).
    StreamError {
        /// The stream.
        stream: u32,
    },
    /// A frame without effect: PRIORITY, or an unknown type (RFC 9113, 5.5).
    Ignored,
}

impl Frame<'_> {
    /// Whether the frame belongs to no message, so that a peer can send any number of it.
    pub fn is_idle(&self) -> bool {
        match self {
            Frame::SettingsAck | Frame::Ping(_) | Frame::PingAck(_) | Frame::Ignored => true,
            Frame::Data { end, data, .. } => !end && data.is_empty(),
            _ => false,
        }
    }
}

/// The payload of a SETTINGS frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings<'a>(&'a [u8]);

impl Settings<'_> {
    /// The identifiers and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u32)> + use<'_> {
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
