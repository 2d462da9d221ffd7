//! The events of every committed revision.

use bytes::Bytes;
use keelson_model::kv::Kv;
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::mvccpb::event::EventType;
use keelson_proto::mvccpb::{Event, KeyValue};

/// All events from the first revision on, each with the pair before it.
#[derive(Debug)]
pub struct EventLog {
    /// By revision, from 2 on.
    revisions: Vec<Vec<Event>>,
    compacted: i64,
}

impl Default for EventLog {
    fn default() -> EventLog {
        EventLog {
            revisions: Vec::new(),
            compacted: -1,
        }
    }
}

impl EventLog {
    /// The last committed revision.
    pub fn revision(&self) -> i64 {
        1 + self.revisions.len() as i64
    }

    /// The revision up to which events may be gone; -1 before the first compaction.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// A compaction is committed.
    pub fn compact(&mut self, revision: i64) {
        if revision <= self.revision() {
            self.compacted = self.compacted.max(revision);
        }
    }

    /// Takes the changes of the model's last request, which has made the next revision. The model
    /// must not have been compacted.
    ///
    /// # Panics
    /// The model's revision is not the next one.
    pub fn push(&mut self, model: &Kv) {
        let revision = model.revision();
        assert_eq!(revision, self.revision() + 1, "each revision once");
        let changes = model.changes().iter();
        let events = changes.map(|(key, value)| event(model, revision, key, value.is_none()));
        self.revisions.push(events.collect());
    }

    /// The events of `from..=to`, in order.
    pub fn events(&self, from: i64, to: i64) -> impl Iterator<Item = &Event> {
        let at = |revision: i64| usize::try_from(revision - 2).unwrap_or(0);
        let last = self.revisions.len();
        let (from, to) = (at(from).min(last), at(to + 1).min(last));
        self.revisions[from..to.max(from)].iter().flatten()
    }
}

fn event(model: &Kv, revision: i64, key: &Bytes, is_delete: bool) -> Event {
    let (kind, kv) = match is_delete {
        true => {
            let kv = KeyValue {
                key: key.clone(),
                mod_revision: revision,
                ..KeyValue::default()
            };
            (EventType::Delete, Some(kv))
        }
        false => (EventType::Put, pair(model, key, revision)),
    };
    let is_create = kv.as_ref().is_some_and(|kv| kv.create_revision == revision);
    let previous = pair(model, key, revision - 1);
    Event {
        r#type: kind.into(),
        kv,
        // None also if it was deleted in the same revision: etcd's `IsCreateEvent`.
        prev_kv: previous.filter(|_| !is_create),
    }
}

fn pair(model: &Kv, key: &Bytes, revision: i64) -> Option<KeyValue> {
    let request = RangeRequest {
        key: key.clone(),
        revision,
        ..RangeRequest::default()
    };
    model.range(&request).ok()?.kvs.pop()
}
