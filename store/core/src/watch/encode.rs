//! Messages as gRPC frames, many of them in one buffer.
//!
//! Small pairs are copied, since a copy costs less than a buffer of its own. Large ones are shared
//! with the memtable: the value that a put brought is the value that all its watchers are sent.

use bytes::{BufMut, Bytes, BytesMut};
use keelson_proto::etcdserverpb::ResponseHeader;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{SentEvent, WatchContent, WatchMessage};

/// A pair of this size is not copied.
const SHARED_BYTES_MIN: usize = 8 << 10;

/// Tags of `WatchResponse`, `Event` and `ResponseHeader`: field number and wire type.
const HEADER: u8 = 1 << 3 | 2;
const WATCH_ID: u8 = 2 << 3;
const FRAGMENT: u8 = 7 << 3;
const EVENTS: u8 = 11 << 3 | 2;
const EVENT_TYPE: u8 = 1 << 3;
const EVENT_KV: u8 = 2 << 3 | 2;
const EVENT_PREV_KV: u8 = 3 << 3 | 2;
const HEADER_REVISION: u8 = 3 << 3;

/// The fields of every header of a stream that do not change with the message, encoded.
#[derive(Clone, Debug)]
pub struct HeaderFields {
    header: ResponseHeader,
    encoded: Bytes,
}

impl HeaderFields {
    /// Those of this header.
    pub fn new(header: ResponseHeader) -> HeaderFields {
        let header = ResponseHeader {
            revision: 0,
            ..header
        };
        let encoded = header.encode_to_vec().into();
        HeaderFields { header, encoded }
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.header.raft_term
    }
}

/// Encoded frames: pieces in order.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    pieces: Vec<Bytes>,
    open: BytesMut,
    bytes: usize,
}

impl FrameBuffer {
    /// The size of all pieces, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has no piece.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The pieces, in order. The buffer is empty afterwards.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.close();
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push(self.open.split().freeze());
        }
    }

    fn put(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.open.extend_from_slice(bytes);
        } else {
            self.close();
            self.pieces.push(bytes.clone());
        }
    }

    fn varint(&mut self, number: u64) {
        encode_varint(number, &mut self.open);
    }

    fn field(&mut self, tag: u8, number: u64) {
        if number != 0 {
            self.open.put_u8(tag);
            self.varint(number);
        }
    }

    /// Adds a message as a gRPC frame.
    pub fn push(&mut self, message: &WatchMessage, fields: &HeaderFields) {
        match &message.content {
            WatchContent::Events { events, fragment } => {
                self.push_events(message, events, *fragment, fields);
            }
            _ => {
                let response = message.response(fields.header);
                let len = response.encoded_len();
                self.begin(len);
                let encoded = response.encode(&mut self.open);
                debug_assert!(encoded.is_ok(), "the buffer grows as needed");
            }
        }
    }

    fn push_events(
        &mut self,
        message: &WatchMessage,
        events: &[SentEvent],
        fragment: bool,
        fields: &HeaderFields,
    ) {
        let header_len = fields.encoded.len() + field_len(message.revision as u64);
        let mut len = 1 + varint_len(header_len) + header_len;
        len += field_len(message.watch_id as u64) + if fragment { 2 } else { 0 };
        len += events.iter().map(encoded_len).sum::<usize>();
        self.begin(len);
        self.open.put_u8(HEADER);
        self.varint(header_len as u64);
        self.open.extend_from_slice(&fields.encoded);
        self.field(HEADER_REVISION, message.revision as u64);
        self.field(WATCH_ID, message.watch_id as u64);
        self.field(FRAGMENT, fragment.into());
        for event in events {
            self.push_event(event);
        }
    }

    fn push_event(&mut self, sent: &SentEvent) {
        let event = sent.event();
        self.open.put_u8(EVENTS);
        self.varint(event_len(sent) as u64);
        self.field(EVENT_TYPE, event.is_delete.into());
        for (tag, kv) in [
            (EVENT_KV, Some(event.kv())),
            (EVENT_PREV_KV, sent.previous.as_ref()),
        ] {
            if let Some(kv) = kv {
                self.open.put_u8(tag);
                self.varint(kv.len() as u64);
                self.put(kv);
            }
        }
    }

    /// Begins a frame: not compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
    fn begin(&mut self, len: usize) {
        self.bytes += len + 5;
        self.open.reserve(64 + len.min(SHARED_BYTES_MIN));
        self.open.put_u8(0);
        self.open.put_u32(len as u32);
    }
}

fn varint_len(number: usize) -> usize {
    encoded_len_varint(number as u64)
}

/// The length of a number with its tag; 0 if the number is omitted.
fn field_len(number: u64) -> usize {
    match number {
        0 => 0,
        number => 1 + encoded_len_varint(number),
    }
}

fn event_len(sent: &SentEvent) -> usize {
    let event = sent.event();
    let pairs = [Some(event.kv()), sent.previous.as_ref()]
        .into_iter()
        .flatten();
    let pairs = pairs.map(|kv| 1 + varint_len(kv.len()) + kv.len());
    pairs.sum::<usize>() + if event.is_delete { 2 } else { 0 }
}

/// The length of an event as a field of the message.
pub(super) fn encoded_len(sent: &SentEvent) -> usize {
    let len = event_len(sent);
    1 + varint_len(len) + len
}
