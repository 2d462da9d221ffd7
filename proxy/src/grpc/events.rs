//! The responses of a watch that clients share: read whole, and written for each client.

use bytes::{Bytes, BytesMut};

use super::Unreadable;
use super::prefix::{PREFIX_BYTES, PrefixReader, put_message};
use super::protobuf::{MessageFields, Value, put_bytes, put_number};
use crate::policy::resumption::{ResponseHeader, StreamResponse};
use crate::policy::shared_log::{SharedEvents, SharedResponse};

/// A larger response is not shared.
const SHARED_BYTES_MAX: usize = 4 * 1024 * 1024;

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
}

/// A response, and what clients share of it.
pub(crate) struct Received {
    pub(crate) response: StreamResponse,
    pub(crate) shared: SharedResponse<Bytes>,
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
        let (_, length) = PrefixReader::default().read(&self.received)?;
        let Some(length) = length.map(|length| length as usize) else {
            return Ok(None);
        };
        if SHARED_BYTES_MAX < length {
            return Err(Unreadable);
        }
        if self.received.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let message = self.received.split_to(PREFIX_BYTES + length);
        let payload = Bytes::copy_from_slice(&message[PREFIX_BYTES..]);
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        received(&payload).map(Some)
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
    let bytes = payload.len();
    Ok(Received {
        response,
        shared,
        bytes,
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
