//! HTTP/2 frames (RFC 9113): taken off what arrives, and written.
//!
//! What arrives is looked at where it lies; only what is cut in two by the end of a read is kept.

use bytes::{BufMut, BytesMut};

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

/// The same of a stream's number, whose first bit means nothing.
fn stream_of(bytes: &[u8]) -> u32 {
    number_of(bytes) & 0x7fff_ffff
}

/// Takes frames off what arrives.
#[derive(Default)]
pub(super) struct Frames {
    /// Of the next frame, what a read had at its end.
    cut: Vec<u8>,
    /// A block of fields whose end has not come.
    open: Option<Box<Open>>,
}

/// What has begun to arrive and is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partial {
    /// A block of fields, or a frame of anything but data.
    Head,
    Data,
}

struct Open {
    stream: u32,
    end: bool,
    block: Vec<u8>,
    /// Heads included: empty frames are counted too.
    taken: usize,
}

struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn of(bytes: &[u8]) -> Option<Head> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Some(Head {
            length: length as usize,
            kind: head[3],
            flags: head[4],
            stream: stream_of(&head[5..]),
        })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Frames {
    /// What is begun and not whole.
    pub(super) fn partial(&self) -> Option<Partial> {
        if self.open.is_none() && self.cut.is_empty() {
            return None;
        }
        let kind = self.cut.get(3).filter(|_| self.open.is_none());
        Some(match kind {
            Some(&DATA) => Partial::Data,
            _ => Partial::Head,
        })
    }

    /// Hands on all that is whole.
    pub(super) fn take(
        &mut self,
        arrived: &[u8],
        mut each: impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.cut.is_empty() {
            let taken = self.whole(arrived, &mut each)?;
            self.cut.extend_from_slice(&arrived[taken..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.cut);
        joined.extend_from_slice(arrived);
        let taken = self.whole(&joined, &mut each)?;
        if taken < joined.len() {
            joined.drain(..taken);
            self.cut = joined;
        }
        Ok(())
    }

    fn whole(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(head) = Head::of(&bytes[at..]) {
            if FRAME_BYTES_MAX < head.length {
                return Err(Fault::new(Code::FRAME_SIZE_ERROR, "a frame is too large"));
            }
            let after = at + HEAD_BYTES + head.length;
            let Some(payload) = bytes.get(at + HEAD_BYTES..after) else {
                break;
            };
            self.frame(&head, payload, each)?;
            at = after;
        }
        Ok(at)
    }

    fn frame(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.open.is_some() != (head.kind == CONTINUATION) {
            return Err(Fault::protocol("a block of fields is interrupted"));
        }
        match head.kind {
            HEADERS => self.headers(head, payload, each),
            CONTINUATION => self.continuation(head, payload, each),
            _ => each(event(head, payload)?),
        }
    }

    fn headers(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        on_a_stream(head)?;
        let block = match head.has(PRIORITY) {
            true => unpadded(head, payload)?.get(PRIORITY_BYTES..),
            false => Some(unpadded(head, payload)?),
        };
        let block = block.ok_or(Fault::new(Code::FRAME_SIZE_ERROR, "no room for a priority"))?;
        let (stream, end) = (head.stream, head.has(END_STREAM));
        if head.has(END_HEADERS) {
            return each(Event::Headers { stream, end, block });
        }
        self.open = Some(Box::new(Open {
            stream,
            end,
            block: block.to_vec(),
            taken: HEAD_BYTES + payload.len(),
        }));
        Ok(())
    }

    fn continuation(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Some(mut open) = self.open.take().filter(|open| open.stream == head.stream) else {
            return Err(Fault::protocol("a block of fields goes on elsewhere"));
        };
        open.taken += HEAD_BYTES + payload.len();
        if BLOCK_BYTES_MAX < open.taken {
            return Err(Fault::new(Code::ENHANCE_YOUR_CALM, "too many fields"));
        }
        open.block.extend_from_slice(payload);
        if !head.has(END_HEADERS) {
            self.open = Some(open);
            return Ok(());
        }
        each(Event::Headers {
            stream: open.stream,
            end: open.end,
            block: &open.block,
        })
    }
}

/// A frame that is complete in itself.
fn event<'a>(head: &Head, payload: &'a [u8]) -> Result<Event<'a>, Fault> {
    let stream = head.stream;
    Ok(match head.kind {
        DATA => {
            on_a_stream(head)?;
            Event::Data {
                stream,
                end: head.has(END_STREAM),
                data: unpadded(head, payload)?,
                flow: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            }
        }
        RST_STREAM => {
            on_a_stream(head)?;
            let code = Code(number_of(sized::<4>(payload)?));
            Event::Reset { stream, code }
        }
        SETTINGS => settings(head, payload)?,
        PING => {
            on_the_connection(head)?;
            let bytes = *sized::<8>(payload)?;
            match head.has(ACK) {
                true => Event::Pong(bytes),
                false => Event::Ping(bytes),
            }
        }
        GOAWAY => {
            on_the_connection(head)?;
            let first = payload.first_chunk::<8>().ok_or(WRONG_SIZE)?;
            let code = Code(number_of(&first[4..]));
            let last = stream_of(first);
            Event::GoAway { last, code }
        }
        WINDOW_UPDATE => match (stream_of(sized::<4>(payload)?), stream) {
            (0, 0) => return Err(Fault::protocol("a window grows by nothing")),
            (0, stream) => Event::Broken { stream },
            (by, stream) => Event::Window { stream, by },
        },
        PRIORITY_FRAME => {
            on_a_stream(head)?;
            sized::<PRIORITY_BYTES>(payload)?;
            Event::Nothing
        }
        PUSH_PROMISE => return Err(Fault::protocol("an answer without a request")),
        _ => Event::Nothing,
    })
}

fn settings<'a>(head: &Head, payload: &'a [u8]) -> Result<Event<'a>, Fault> {
    on_the_connection(head)?;
    match head.has(ACK) {
        true if payload.is_empty() => Ok(Event::SettingsAck),
        false if payload.len().is_multiple_of(6) => Ok(Event::Settings(Settings(payload))),
        _ => Err(WRONG_SIZE),
    }
}

const WRONG_SIZE: Fault = Fault {
    code: Code::FRAME_SIZE_ERROR,
    what: "a frame has the wrong size",
};

fn sized<const SIZE: usize>(payload: &[u8]) -> Result<&[u8; SIZE], Fault> {
    payload.try_into().map_err(|_| WRONG_SIZE)
}

fn on_a_stream(head: &Head) -> Result<(), Fault> {
    match head.stream {
        0 => Err(Fault::protocol("a frame belongs to no stream")),
        _ => Ok(()),
    }
}

fn on_the_connection(head: &Head) -> Result<(), Fault> {
    match head.stream {
        0 => Ok(()),
        _ => Err(Fault::protocol("a connection's frame belongs to a stream")),
    }
}

fn unpadded<'a>(head: &Head, payload: &'a [u8]) -> Result<&'a [u8], Fault> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(WRONG_SIZE)?;
    let length = rest.len().checked_sub(usize::from(*padding));
    let length = length.ok_or(Fault::protocol("more padding than frame"))?;
    Ok(&rest[..length])
}

fn put_head(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    debug_assert!(length < 1 << 24);
    out.put_uint(length as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

/// A block of fields, in parts that lie one behind the other.
pub(super) fn put_headers(out: &mut BytesMut, stream: u32, parts: [&[u8]; 2], end: bool) {
    put_headers_in(out, stream, parts, end, FRAME_BYTES_MAX);
}

/// The same in frames of a certain size.
fn put_headers_in(out: &mut BytesMut, stream: u32, parts: [&[u8]; 2], end: bool, frame_max: usize) {
    let end = if end { END_STREAM } else { 0 };
    let length = parts[0].len() + parts[1].len();
    if length <= frame_max {
        out.reserve(HEAD_BYTES + length);
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

/// No more than one frame takes.
pub(super) fn put_data(out: &mut BytesMut, stream: u32, data: &[u8], end: bool) {
    out.reserve(HEAD_BYTES + data.len());
    let end = if end { END_STREAM } else { 0 };
    put_head(out, data.len(), DATA, end, stream);
    out.put_slice(data);
}

/// Adds to a frame of data that begins there and is the last one. The two are no more than a frame takes.
pub(super) fn extend_data(out: &mut BytesMut, at: usize, data: &[u8], end: bool) {
    out.extend_from_slice(data);
    let length = out.len() - at - HEAD_BYTES;
    let head = &mut out[at..at + HEAD_BYTES];
    // 24 bits in network order.
    head[..3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
    head[4] |= if end { END_STREAM } else { 0 };
}

pub(super) fn put_reset(out: &mut BytesMut, stream: u32, code: Code) {
    put_head(out, 4, RST_STREAM, 0, stream);
    out.put_u32(code.0);
}

pub(super) fn put_settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, SETTINGS, 0, 0);
    for (number, value) in settings {
        out.put_u16(*number);
        out.put_u32(*value);
    }
}

pub(super) fn put_settings_ack(out: &mut BytesMut) {
    put_head(out, 0, SETTINGS, ACK, 0);
}

pub(super) fn put_ping(out: &mut BytesMut, bytes: [u8; 8], answer: bool) {
    put_head(out, 8, PING, if answer { ACK } else { 0 }, 0);
    out.put_slice(&bytes);
}

pub(super) fn put_goaway(out: &mut BytesMut, last: u32, code: Code, what: &str) {
    put_head(out, 8 + what.len(), GOAWAY, 0, 0);
    out.put_u32(last);
    out.put_u32(code.0);
    out.put_slice(what.as_bytes());
}

pub(super) fn put_window(out: &mut BytesMut, stream: u32, by: u32) {
    put_head(out, 4, WINDOW_UPDATE, 0, stream);
    out.put_u32(by);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is said, in words; read in pieces.
    fn heard(sent: &[u8], pieces: usize) -> Result<Vec<String>, Fault> {
        let mut frames = Frames::default();
        let mut heard = vec![];
        let size = sent.len().div_ceil(pieces).max(1);
        for piece in sent.chunks(size) {
            frames.take(piece, |event| {
                heard.push(format!("{event:?}"));
                Ok(())
            })?;
        }
        Ok(heard)
    }

    #[test]
    fn what_is_written_is_heard_however_it_is_cut() {
        let mut sent = BytesMut::new();
        put_settings(&mut sent, &[(setting::INITIAL_WINDOW, 7)]);
        put_settings_ack(&mut sent);
        put_ping(&mut sent, *b"abcdefgh", false);
        put_ping(&mut sent, *b"abcdefgh", true);
        put_headers(&mut sent, 1, [b"ab", b"c"], false);
        put_headers_in(&mut sent, 3, [b"abc", b"defg"], true, 3);
        put_data(&mut sent, 1, b"data", true);
        put_reset(&mut sent, 5, Code::CANCEL);
        put_window(&mut sent, 0, 9);
        put_goaway(&mut sent, 3, Code::NO_ERROR, "bye");
        let expected = [
            "Settings(Settings([0, 4, 0, 0, 0, 7]))",
            "SettingsAck",
            "Ping([97, 98, 99, 100, 101, 102, 103, 104])",
            "Pong([97, 98, 99, 100, 101, 102, 103, 104])",
            "Headers { stream: 1, end: false, block: [97, 98, 99] }",
            "Headers { stream: 3, end: true, block: [97, 98, 99, 100, 101, 102, 103] }",
            "Data { stream: 1, end: true, data: [100, 97, 116, 97], flow: 4 }",
            "Reset { stream: 5, code: Code(8) }",
            "Window { stream: 0, by: 9 }",
            "GoAway { last: 3, code: Code(0) }",
        ];
        for pieces in 1..sent.len() {
            assert_eq!(heard(&sent, pieces).unwrap(), expected, "{pieces}");
        }
    }

    #[test]
    fn padding_and_priorities_are_taken_off() {
        let cases: [(&[u8], &str); 4] = [
            (
                b"\0\0\x06\0\x08\0\0\0\x01\x02abc\0\0",
                "Data { stream: 1, end: false, data: [97, 98, 99], flow: 6 }",
            ),
            (
                b"\0\0\x07\x01\x24\0\0\0\x01\0\0\0\0\x10ab",
                "Headers { stream: 1, end: false, block: [97, 98] }",
            ),
            (
                b"\0\0\x09\x01\x2d\0\0\0\x01\x01\0\0\0\0\x10ab\0",
                "Headers { stream: 1, end: true, block: [97, 98] }",
            ),
            (
                b"\0\0\x01\x2a\0\0\0\0\x01x\0\0\0\x04\x01\0\0\0\0",
                "Nothing SettingsAck",
            ),
        ];
        for (sent, expected) in cases {
            assert_eq!(heard(sent, 1).unwrap().join(" "), expected);
        }
    }

    #[test]
    fn what_is_wrong_ends_the_connection() {
        let cases: [(&[u8], Code); 12] = [
            (b"\0\x40\x01\0\0\0\0\0\x01", Code::FRAME_SIZE_ERROR),
            (b"\0\0\0\0\0\0\0\0\0", Code::PROTOCOL_ERROR),
            (b"\0\0\x01\0\x08\0\0\0\x01\x01", Code::PROTOCOL_ERROR),
            (b"\0\0\0\0\x08\0\0\0\x01", Code::FRAME_SIZE_ERROR),
            (b"\0\0\x01\x01\x24\0\0\0\x01x", Code::FRAME_SIZE_ERROR),
            (b"\0\0\x03\x03\0\0\0\0\x01abc", Code::FRAME_SIZE_ERROR),
            (b"\0\0\x01\x04\0\0\0\0\0x", Code::FRAME_SIZE_ERROR),
            (b"\0\0\0\x04\0\0\0\0\x01", Code::PROTOCOL_ERROR),
            (b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0", Code::PROTOCOL_ERROR),
            (b"\0\0\0\x09\x04\0\0\0\x01", Code::PROTOCOL_ERROR),
            (
                b"\0\0\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01",
                Code::PROTOCOL_ERROR,
            ),
            (
                b"\0\0\0\x01\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x03",
                Code::PROTOCOL_ERROR,
            ),
        ];
        for (sent, code) in cases {
            assert_eq!(heard(sent, 1).unwrap_err().code, code, "{sent:?}");
        }
    }

    #[test]
    fn a_block_without_end_ends_the_connection() {
        let mut frames = Frames::default();
        let ignore = |_: Event<'_>| Ok(());
        frames.take(b"\0\0\0\x01\0\0\0\0\x01", ignore).unwrap();
        let more = b"\0\0\0\x09\0\0\0\0\x01";
        let ended = (0..BLOCK_BYTES_MAX).find_map(|_| frames.take(more, ignore).err());
        assert_eq!(ended.unwrap().code, Code::ENHANCE_YOUR_CALM);
    }

    proptest::proptest! {
        #[test]
        fn whatever_arrives_is_survived(sent: Vec<u8>, pieces in 1..9_usize) {
            let whole = heard(&sent, 1);
            proptest::prop_assert_eq!(heard(&sent, pieces).is_err(), whole.is_err());
        }
    }
}
