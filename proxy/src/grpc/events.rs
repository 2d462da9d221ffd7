//! The responses of a watch that clients share: read whole, and written for each client.

use bytes::{Buf, Bytes, BytesMut};

use super::Unreadable;
use super::prefix::{PREFIX_BYTES, PrefixReader, put_message};
use super::protobuf::{MessageFields, Scanner, Value, put_bytes, put_number};
use super::responses::ResponseVisitor;
use crate::policy::resumption::{ResponseHeader, StreamResponse};
use crate::policy::shared_log::{SharedEvents, SharedResponse};

/// A larger response is not shared, and not kept: each stream receives it from a member.
const SHARED_BYTES_MAX: usize = 256 * 1024;

/// The fields of `WatchResponse`.
const HEADER: u64 = 1;
const WATCH_ID: u64 = 2;
const CREATED: u64 = 3;
const CANCELED: u64 = 4;
const FRAGMENT: u64 = 7;
const EVENT: u64 = 11;

/// Divides what a member sends into whole responses.
#[derive(Default)]
pub(crate) struct EventReader {
    received: BytesMut,
    /// A large response of which a part was read.
    large: Option<LargeResponse>,
}

/// A response that is read in parts, and of which only the numbers are kept.
#[derive(Default)]
struct LargeResponse {
    scanner: Scanner,
    fields: ResponseVisitor,
}

/// A response, and what clients share of it.
pub(crate) struct Received {
    pub(crate) response: StreamResponse,
    /// `None`: it is too large.
    pub(crate) shared: Option<SharedResponse<Bytes>>,
    pub(crate) bytes: usize,
}

impl EventReader {
    pub(crate) fn receive(&mut self, data: &[u8]) {
        self.received.extend_from_slice(data);
    }

    /// The next whole response.
    ///
    /// # Errors
    /// It cannot be shared.
    pub(crate) fn next(&mut self) -> Result<Option<Received>, Unreadable> {
        if self.large.is_none() {
            let (_, length) = PrefixReader::default().read(&self.received)?;
            let Some(length) = length.map(|length| length as usize) else {
                return Ok(None);
            };
            if length <= SHARED_BYTES_MAX {
                return self.small(length);
            }
            self.received.advance(PREFIX_BYTES);
            let mut large = LargeResponse::default();
            large.scanner.begin(length as u64);
            self.large = Some(large);
        }
        self.large()
    }

    fn small(&mut self, length: usize) -> Result<Option<Received>, Unreadable> {
        if self.received.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let message = self.received.split_to(PREFIX_BYTES + length);
        let payload = Bytes::copy_from_slice(&message[PREFIX_BYTES..]);
        self.free();
        received(&payload).map(Some)
    }

    fn large(&mut self) -> Result<Option<Received>, Unreadable> {
        let Some(large) = &mut self.large else {
            return Ok(None);
        };
        let read = large.scanner.read(&self.received, &mut large.fields)?;
        let response = large.scanner.is_over().then_some(large.fields.0);
        self.received.advance(read);
        self.free();
        Ok(response.map(|response| {
            self.large = None;
            Received {
                response,
                shared: None,
                bytes: 0,
            }
        }))
    }

    fn free(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }
}

fn received(payload: &Bytes) -> Result<Received, Unreadable> {
    let mut response = StreamResponse::default();
    let mut first = i64::MAX;
    let mut begin = payload.len();
    let mut fields = MessageFields(payload);
    loop {
        let at = payload.len() - fields.0.len();
        let Some(field) = fields.next() else { break };
        match field? {
            (EVENT, Value::Bytes(event)) => {
                let revision = revision(event)?;
                first = first.min(revision);
                response.last_revision = response.last_revision.max(revision);
                begin = begin.min(at);
            }
            // The events are shared as they are: nothing may stand between them.
            _ if begin < payload.len() => return Err(Unreadable),
            (HEADER, Value::Bytes(header)) => response.header = header_of(header)?,
            (WATCH_ID, Value::Varint(id)) => response.watch_id = id.cast_signed(),
            (CREATED, Value::Varint(value)) => response.created = value != 0,
            (CANCELED, Value::Varint(value)) => response.canceled = value != 0,
            (FRAGMENT, Value::Varint(value)) if value != 0 => return Err(Unreadable),
            _ => {}
        }
    }
    response.has_events = begin < payload.len();
    let events = response.has_events.then(|| SharedEvents {
        first,
        last: response.last_revision,
        encoded: payload.slice(begin..),
    });
    let shared = SharedResponse {
        header: response.header,
        events,
    };
    Ok(Received {
        response,
        shared: Some(shared),
        bytes: payload.len(),
    })
}

/// The revision of an event.
fn revision(event: &[u8]) -> Result<i64, Unreadable> {
    let mut revision = 0;
    for field in MessageFields(event) {
        if let (2, Value::Bytes(key_value)) = field? {
            for field in MessageFields(key_value) {
                if let (3, Value::Varint(value)) = field? {
                    revision = value.cast_signed();
                }
            }
        }
    }
    Ok(revision)
}

fn header_of(encoded: &[u8]) -> Result<ResponseHeader, Unreadable> {
    let mut header = ResponseHeader::default();
    for field in MessageFields(encoded) {
        match field? {
            (1, Value::Varint(value)) => header.cluster_id = value,
            (2, Value::Varint(value)) => header.member_id = value,
            (3, Value::Varint(value)) => header.revision = value.cast_signed(),
            (4, Value::Varint(value)) => header.raft_term = value,
            _ => {}
        }
    }
    Ok(header)
}

/// Writes a response for a client's watch.
pub(crate) fn put_shared(out: &mut BytesMut, watch_id: i64, response: &SharedResponse<Bytes>) {
    let header = &response.header;
    put_message(out, |out| {
        let mut encoded = BytesMut::new();
        put_number(&mut encoded, 1, header.cluster_id);
        put_number(&mut encoded, 2, header.member_id);
        put_number(&mut encoded, 3, header.revision.cast_unsigned());
        put_number(&mut encoded, 4, header.raft_term);
        put_bytes(out, HEADER, [&encoded, &[]]);
        put_number(out, WATCH_ID, watch_id.cast_unsigned());
        if let Some(events) = &response.events {
            out.extend_from_slice(&events.encoded);
        }
    });
}
