//! Frames from their header and payload.

use super::{
    ACK, ConnectionError, DATA, END_STREAM, ErrorCode, FRAME_HEADER_BYTES, Frame, GOAWAY, PADDED,
    PING, PRIORITY_BYTES, PRIORITY_FRAME, PUSH_PROMISE, RST_STREAM, SETTINGS, Settings,
    WINDOW_UPDATE, number_of,
};

/// A frame header.
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn of(bytes: &[u8]) -> Option<Head> {
        let head = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Some(Head {
            length: length as usize,
            kind: head[3],
            flags: head[4],
            stream: stream_of(&head[5..]),
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A stream identifier; its reserved bit is ignored.
fn stream_of(bytes: &[u8]) -> u32 {
    number_of(bytes) & 0x7fff_ffff
}

/// Parses a frame other than HEADERS and CONTINUATION.
pub(super) fn event<'a>(head: &Head, payload: &'a [u8]) -> Result<Frame<'a>, ConnectionError> {
    let stream = head.stream;
    Ok(match head.kind {
        DATA => {
            on_a_stream(head)?;
            Frame::Data {
                stream,
                end: head.has(END_STREAM),
                data: unpadded(head, payload)?,
                flow_controlled_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            }
        }
        RST_STREAM => {
            on_a_stream(head)?;
            let code = ErrorCode(number_of(sized::<4>(payload)?));
            Frame::RstStream { stream, code }
        }
        SETTINGS => settings(head, payload)?,
        PING => {
            on_the_connection(head)?;
            let bytes = *sized::<8>(payload)?;
            match head.has(ACK) {
                true => Frame::PingAck(bytes),
                false => Frame::Ping(bytes),
            }
        }
        GOAWAY => {
            on_the_connection(head)?;
            let first = payload.first_chunk::<8>().ok_or(WRONG_SIZE)?;
            let code = ErrorCode(number_of(&first[4..]));
            let last = stream_of(first);
            Frame::GoAway { last, code }
        }
        WINDOW_UPDATE => match (stream_of(sized::<4>(payload)?), stream) {
            (0, 0) => return Err(ConnectionError::protocol("a window grows by nothing")),
            (0, stream) => Frame::StreamError { stream },
            (increment, stream) => Frame::WindowUpdate { stream, increment },
        },
        PRIORITY_FRAME => {
            on_a_stream(head)?;
            sized::<PRIORITY_BYTES>(payload)?;
            Frame::Ignored
        }
        PUSH_PROMISE => return Err(ConnectionError::protocol("an answer without a request")),
        _ => Frame::Ignored,
    })
}

fn settings<'a>(head: &Head, payload: &'a [u8]) -> Result<Frame<'a>, ConnectionError> {
    on_the_connection(head)?;
    match head.has(ACK) {
        true if payload.is_empty() => Ok(Frame::SettingsAck),
        false if payload.len().is_multiple_of(6) => Ok(Frame::Settings(Settings(payload))),
        _ => Err(WRONG_SIZE),
    }
}

const WRONG_SIZE: ConnectionError = ConnectionError {
    code: ErrorCode::FRAME_SIZE_ERROR,
    reason: "a frame has the wrong size",
};

fn sized<const SIZE: usize>(payload: &[u8]) -> Result<&[u8; SIZE], ConnectionError> {
    payload.try_into().map_err(|_| WRONG_SIZE)
}

pub(super) fn on_a_stream(head: &Head) -> Result<(), ConnectionError> {
    match head.stream {
        0 => Err(ConnectionError::protocol("a frame belongs to no stream")),
        _ => Ok(()),
    }
}

fn on_the_connection(head: &Head) -> Result<(), ConnectionError> {
    match head.stream {
        0 => Ok(()),
        _ => Err(ConnectionError::protocol(
            "a connection's frame belongs to a stream",
        )),
    }
}

pub(super) fn unpadded<'a>(head: &Head, payload: &'a [u8]) -> Result<&'a [u8], ConnectionError> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(WRONG_SIZE)?;
    let length = rest.len().checked_sub(usize::from(*padding));
    let length = length.ok_or(ConnectionError::protocol("more padding than frame"))?;
    Ok(&rest[..length])
}
