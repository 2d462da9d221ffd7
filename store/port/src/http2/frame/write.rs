//! Writes frames.

use bytes::{BufMut, BytesMut};

use super::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ErrorCode, FRAME_HEADER_BYTES, GOAWAY,
    HEADERS, MAX_FRAME_SIZE, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};

fn put_head(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    debug_assert!(length < 1 << 24);
    out.put_uint(length as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

/// Writes HEADERS, and CONTINUATION if needed. The parts are concatenated to one field block.
pub fn put_headers(out: &mut BytesMut, stream: u32, parts: [&[u8]; 2], end: bool) {
    put_headers_in(out, stream, parts, end, MAX_FRAME_SIZE);
}

/// The same with a given maximum frame size.
pub(super) fn put_headers_in(
    out: &mut BytesMut,
    stream: u32,
    parts: [&[u8]; 2],
    end: bool,
    frame_max: usize,
) {
    let end = if end { END_STREAM } else { 0 };
    let length = parts[0].len() + parts[1].len();
    if length <= frame_max {
        out.reserve(FRAME_HEADER_BYTES + length);
        put_head(out, length, HEADERS, END_HEADERS | end, stream);
        out.put_slice(parts[0]);
        out.put_slice(parts[1]);
        return;
    }
    let block = parts.concat();
    let mut frames = block.chunks(frame_max).enumerate().peekable();
    while let Some((place, part)) = frames.next() {
        let last = if frames.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        match place {
            0 => put_head(out, part.len(), HEADERS, last | end, stream),
            _ => put_head(out, part.len(), CONTINUATION, last, stream),
        }
        out.put_slice(part);
    }
}

/// Writes one DATA frame.
pub fn put_data(out: &mut BytesMut, stream: u32, data: &[u8], end: bool) {
    out.reserve(FRAME_HEADER_BYTES + data.len());
    let end = if end { END_STREAM } else { 0 };
    put_head(out, data.len(), DATA, end, stream);
    out.put_slice(data);
}

/// Appends to the last DATA frame of the buffer, which begins at `at`. The result fits one frame.
pub(in crate::http2) fn extend_data(out: &mut BytesMut, at: usize, data: &[u8], end: bool) {
    out.extend_from_slice(data);
    let length = out.len() - at - FRAME_HEADER_BYTES;
    let head = &mut out[at..at + FRAME_HEADER_BYTES];
    // 24 bits in network order.
    head[..3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
    head[4] |= if end { END_STREAM } else { 0 };
}

/// Writes RST_STREAM.
pub fn put_rst_stream(out: &mut BytesMut, stream: u32, code: ErrorCode) {
    put_head(out, 4, RST_STREAM, 0, stream);
    out.put_u32(code.0);
}

/// Writes SETTINGS: identifiers and values.
pub fn put_settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, SETTINGS, 0, 0);
    for (number, value) in settings {
        out.put_u16(*number);
        out.put_u32(*value);
    }
}

/// Writes SETTINGS with ACK.
pub fn put_settings_ack(out: &mut BytesMut) {
    put_head(out, 0, SETTINGS, ACK, 0);
}

/// Writes PING; `ack`: with ACK.
pub fn put_ping(out: &mut BytesMut, bytes: [u8; 8], ack: bool) {
    put_head(out, 8, PING, if ack { ACK } else { 0 }, 0);
    out.put_slice(&bytes);
}

/// Writes GOAWAY with debug data.
pub fn put_goaway(out: &mut BytesMut, last: u32, code: ErrorCode, debug_data: &str) {
    put_head(out, 8 + debug_data.len(), GOAWAY, 0, 0);
    out.put_u32(last);
    out.put_u32(code.0);
    out.put_slice(debug_data.as_bytes());
}

/// Writes WINDOW_UPDATE; stream 0: of the connection.
pub fn put_window_update(out: &mut BytesMut, stream: u32, increment: u32) {
    put_head(out, 4, WINDOW_UPDATE, 0, stream);
    out.put_u32(increment);
}
