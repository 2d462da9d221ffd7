//! What a frame is, by its head and its payload.

use super::{
    ACK, Code, DATA, END_STREAM, Event, Fault, GOAWAY, HEAD_BYTES, PADDED, PING, PRIORITY_BYTES,
    PRIORITY_FRAME, PUSH_PROMISE, RST_STREAM, SETTINGS, Settings, WINDOW_UPDATE, number_of,
};

/// What every frame begins with.
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn of(bytes: &[u8]) -> Option<Head> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
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

/// A stream's number, whose first bit means nothing.
fn stream_of(bytes: &[u8]) -> u32 {
    number_of(bytes) & 0x7fff_ffff
}

/// A frame that is complete in itself.
pub(super) fn event<'a>(head: &Head, payload: &'a [u8]) -> Result<Event<'a>, Fault> {
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

pub(super) fn on_a_stream(head: &Head) -> Result<(), Fault> {
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

pub(super) fn unpadded<'a>(head: &Head, payload: &'a [u8]) -> Result<&'a [u8], Fault> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(WRONG_SIZE)?;
    let length = rest.len().checked_sub(usize::from(*padding));
    let length = length.ok_or(Fault::protocol("more padding than frame"))?;
    Ok(&rest[..length])
}
