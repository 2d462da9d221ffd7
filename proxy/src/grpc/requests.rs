//! Requests: read as they come from a client, and written for another member.

use std::hash::Hasher;

use bytes::BytesMut;

use super::Unreadable;
use super::prefix::{PREFIX_BYTES, PrefixReader, put_message};
use super::protobuf::{MessageFields, Value, put_bytes, put_number};
use crate::policy::resumption::{Create, StreamRequest};

/// A larger request is not read.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The fields of `WatchRequest`.
const CREATE: u64 = 1;
const CANCEL: u64 = 2;
const PROGRESS: u64 = 3;

/// The fields of `WatchCreateRequest`.
const START_REVISION: u64 = 3;
const WATCH_ID: u64 = 7;
const FRAGMENT: u64 = 8;

/// The only field of `WatchCancelRequest` and of `LeaseKeepAliveRequest`.
const ID: u64 = 1;

/// Divides what a client sends into messages.
#[derive(Default)]
pub(crate) struct RequestReader {
    /// What has been received of the next message, with its prefix.
    pub(crate) partial: BytesMut,
}

impl RequestReader {
    /// Takes data. Returns the complete messages, each with its prefix.
    ///
    /// # Errors
    /// A message is compressed or large. `partial` then has all that was not returned.
    pub(crate) fn read(&mut self, data: &[u8]) -> Result<BytesMut, Unreadable> {
        self.partial.extend_from_slice(data);
        let mut whole = 0;
        while let Some(length) = length(&self.partial[whole..])? {
            if self.partial.len() - whole < length {
                break;
            }
            whole += length;
        }
        let whole = self.partial.split_to(whole);
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
        }
        Ok(whole)
    }
}

/// The length of the message at the beginning of `data`, with its prefix.
fn length(data: &[u8]) -> Result<Option<usize>, Unreadable> {
    let (_, length) = PrefixReader::default().read(data)?;
    match length {
        Some(length) if REQUEST_BYTES_MAX < length as usize => Err(Unreadable),
        length => Ok(length.map(|length| length as usize + PREFIX_BYTES)),
    }
}

/// The payloads of complete messages.
pub(crate) fn payloads(mut messages: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = length(messages).ok()??;
        let (message, rest) = messages.split_at_checked(length)?;
        messages = rest;
        Some(&message[PREFIX_BYTES..])
    })
}

/// A request of a watch stream; `None`: of a kind that members ignore.
///
/// # Errors
/// It is no such request.
pub(crate) fn watch_request(payload: &[u8]) -> Result<Option<StreamRequest>, Unreadable> {
    let mut request = None;
    for field in MessageFields(payload) {
        // Of a `oneof`, the last field counts.
        match field? {
            (CREATE, Value::Bytes(create)) if request.is_none() => {
                request = Some(StreamRequest::Create(create_of(create)?));
            }
            // Two messages of the same field would have to be merged.
            (CREATE, _) => return Err(Unreadable),
            (CANCEL, Value::Bytes(cancel)) => {
                request = Some(StreamRequest::Cancel(id_of(cancel)?));
            }
            (PROGRESS, Value::Bytes(_)) => request = Some(StreamRequest::Progress),
            _ => {}
        }
    }
    Ok(request)
}

/// What watches must have in common to be shared: the request without its revision and id. `None`:
/// it cannot be shared.
pub(crate) fn shared_form(encoded: &[u8]) -> Option<BytesMut> {
    let mut form = BytesMut::new();
    read_shared_form(encoded, |part| form.extend_from_slice(part))?;
    Some(form)
}

/// Adds the same to a hash.
pub(crate) fn hash_shared_form(encoded: &[u8], hasher: &mut impl Hasher) -> Option<()> {
    read_shared_form(encoded, |part| hasher.write(part))
}

/// Divides it into parts. `None`: it cannot be shared.
fn read_shared_form(encoded: &[u8], mut add: impl FnMut(&[u8])) -> Option<()> {
    let mut fields = MessageFields(encoded);
    loop {
        let before = fields.0;
        let Some(field) = fields.next() else {
            return Some(());
        };
        match field.ok()? {
            (START_REVISION | WATCH_ID, Value::Varint(_)) => {}
            (FRAGMENT, Value::Varint(value)) if value != 0 => return None,
            _ => add(&before[..before.len() - fields.0.len()]),
        }
    }
}

fn create_of(encoded: &[u8]) -> Result<Create, Unreadable> {
    let (mut start_revision, mut watch_id) = (0, 0);
    for field in MessageFields(encoded) {
        match field? {
            (START_REVISION, Value::Varint(value)) => start_revision = value.cast_signed(),
            (WATCH_ID, Value::Varint(value)) => watch_id = value.cast_signed(),
            _ => {}
        }
    }
    Ok(Create {
        encoded: encoded.into(),
        watch_id,
        start_revision,
    })
}

/// The lease of a keepalive.
///
/// # Errors
/// It is no such request.
pub(crate) fn keepalive_request(payload: &[u8]) -> Result<i64, Unreadable> {
    id_of(payload)
}

fn id_of(payload: &[u8]) -> Result<i64, Unreadable> {
    let mut id = 0;
    for field in MessageFields(payload) {
        if let (ID, Value::Varint(value)) = field? {
            id = value.cast_signed();
        }
    }
    Ok(id)
}

/// Writes a request of a watch stream.
pub(crate) fn put_watch_request(out: &mut BytesMut, request: &StreamRequest) {
    put_message(out, |out| match request {
        StreamRequest::Create(create) => {
            // A field that is repeated has its last value.
            let mut changed = BytesMut::new();
            put_number(
                &mut changed,
                START_REVISION,
                create.start_revision.cast_unsigned(),
            );
            put_number(&mut changed, WATCH_ID, create.watch_id.cast_unsigned());
            put_bytes(out, CREATE, [&create.encoded, &changed]);
        }
        StreamRequest::Cancel(id) => {
            let mut cancel = BytesMut::new();
            put_number(&mut cancel, ID, id.cast_unsigned());
            put_bytes(out, CANCEL, [&cancel, &[]]);
        }
        StreamRequest::Progress => put_bytes(out, PROGRESS, [&[], &[]]),
    });
}

/// Writes a keepalive.
pub(crate) fn put_keepalive_request(out: &mut BytesMut, lease: i64) {
    put_message(out, |out| put_number(out, ID, lease.cast_unsigned()));
}
