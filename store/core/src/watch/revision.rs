//! The events of one revision, encoded once and shared by all streams that send them.

use bytes::Bytes;
use keelson_proto::mvccpb::{Event, KeyValue, event::EventType};
use prost::Message;

use super::pairs::{PAIR_BYTES, Pair, PreviousPair, RecentPairs};
use crate::state::Error;

/// A change of one key.
#[derive(Debug)]
pub struct WatchEvent {
    /// The key, a part of `kv`.
    pub key: Bytes,
    /// Whether the key was deleted.
    pub is_delete: bool,
    /// Whether the put created the key: there is no pair before, not even one that the same
    /// revision deleted; etcd's `IsCreateEvent`.
    pub(super) is_create: bool,
    /// The `KeyValue`, encoded: of a deletion only the key and the revision, as in etcd.
    kv: Bytes,
    /// The pair before; read when the first watcher needs it.
    previous: PreviousPair,
}

impl WatchEvent {
    /// A put, which has perhaps created the key; `row` is the encoded pair, and `key` a part of it.
    pub(crate) fn put(key: Bytes, row: Bytes, is_create: bool) -> WatchEvent {
        WatchEvent {
            key,
            is_delete: false,
            is_create,
            kv: row,
            previous: PreviousPair::new(),
        }
    }

    /// A deletion.
    pub(crate) fn delete(key: Bytes, revision: i64) -> WatchEvent {
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        WatchEvent {
            key,
            is_delete: true,
            is_create: false,
            kv: kv.encode_to_vec().into(),
            previous: PreviousPair::new(),
        }
    }

    /// The encoded pair after the change.
    pub(super) fn kv(&self) -> &Bytes {
        &self.kv
    }

    /// The pair before the change; `read` is called if it is not in memory, and `recent` keeps it
    /// then.
    pub(super) fn previous(
        &self,
        recent: Option<&RecentPairs>,
        read: impl FnOnce() -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<Pair>, Error> {
        self.previous.get(recent, read)
    }

    /// The event as a message, with the pair before it if that is given.
    pub(super) fn message(&self, previous: Option<&Pair>) -> Event {
        // Both were encoded by this process, or checked when they were read.
        let decode = |kv: &Bytes| KeyValue::decode(kv.clone()).unwrap_or_default();
        let kind = match self.is_delete {
            true => EventType::Delete,
            false => EventType::Put,
        };
        Event {
            r#type: kind.into(),
            kv: Some(decode(&self.kv)),
            prev_kv: previous.map(decode),
        }
    }
}

/// All events of one revision, in the order of the changes.
#[derive(Debug)]
pub struct RevisionEvents {
    /// The revision.
    pub revision: i64,
    /// Its events.
    pub events: Vec<WatchEvent>,
    bytes: usize,
}

/// The memory of an event besides its pair, in bytes. What remains of a pair before that was read
/// is a part of it, the pair itself is not.
const EVENT_BYTES: usize = size_of::<WatchEvent>() + PAIR_BYTES;

impl RevisionEvents {
    /// A revision without events so far.
    pub(crate) fn new(revision: i64) -> RevisionEvents {
        RevisionEvents {
            revision,
            events: Vec::new(),
            bytes: 0,
        }
    }

    pub(crate) fn push(&mut self, event: WatchEvent) {
        self.bytes += event.kv.len() + EVENT_BYTES;
        self.events.push(event);
    }

    /// The memory of the events, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
