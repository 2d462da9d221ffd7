//! The events of a watch, put together to revisions, and revisions to commands.

use std::collections::{BTreeSet, VecDeque};

use keelson_proto::internal::{Replicate, ReplicatedChange, ReplicatedRevision};
use keelson_proto::mvccpb::Event;
use keelson_proto::mvccpb::event::EventType;

/// The size of a command, in bytes, unless one revision is larger.
const COMMAND_BYTES: usize = 1 << 20;
/// The largest revision, in bytes: an entry of the log has it as a whole.
const REVISION_BYTES_MAX: usize = 32 << 20;

/// Why the events of a watch cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchError {
    #[error("revision {expected} has no event; the next one is of revision {found}")]
    Gap { expected: i64, found: i64 },
    #[error("revision {0} has more than {REVISION_BYTES_MAX} bytes")]
    TooLarge(i64),
}

/// Events that are not applied yet.
pub(super) struct Batch {
    /// The revision before the first in `whole`.
    after: i64,
    whole: VecDeque<(ReplicatedRevision, usize)>,
    /// Of all in `whole`.
    bytes: usize,
    /// The newest revision, of which more events may come: its changes and their bytes.
    open: Option<(ReplicatedRevision, usize)>,
}

impl Batch {
    /// Begins after a revision.
    pub(super) fn new(after: i64) -> Batch {
        Batch {
            after,
            whole: VecDeque::new(),
            bytes: 0,
            open: None,
        }
    }

    /// The revision of `open`, or of the next event.
    fn newest(&self) -> i64 {
        self.after + 1 + self.whole.len() as i64
    }

    /// Takes the events of one response, in order; `is_part` if more of it follow.
    ///
    /// # Errors
    /// Those of [`BatchError`].
    pub(super) fn take(&mut self, events: Vec<Event>, is_part: bool) -> Result<(), BatchError> {
        for event in events {
            let deletes = event.r#type() == EventType::Delete;
            let pair = event.kv.unwrap_or_default();
            if self.newest() < pair.mod_revision {
                self.close();
            }
            let expected = self.newest();
            if pair.mod_revision != expected {
                let found = pair.mod_revision;
                return Err(BatchError::Gap { expected, found });
            }
            let (revision, bytes) = self.open.get_or_insert_default();
            *bytes += pair.key.len() + pair.value.len() + 16;
            if REVISION_BYTES_MAX < *bytes {
                return Err(BatchError::TooLarge(expected));
            }
            revision.changes.push(ReplicatedChange {
                key: pair.key,
                value: pair.value,
                lease: pair.lease,
                deletes,
            });
        }
        if !is_part {
            self.close();
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some((revision, bytes)) = self.open.take() {
            self.bytes += bytes;
            self.whole.push_back((revision, bytes));
        }
    }

    /// Whether the next command has its full size.
    pub(super) fn is_full(&self) -> bool {
        COMMAND_BYTES <= self.bytes
    }

    /// The next command; `None` if no whole revision is left.
    pub(super) fn next_command(&mut self) -> Option<Replicate> {
        let mut command = Replicate {
            after: self.after,
            ..Replicate::default()
        };
        let mut bytes = 0;
        while let Some((revision, more)) = self.whole.pop_front() {
            command.revisions.push(revision);
            bytes += more;
            self.bytes -= more;
            self.after += 1;
            if COMMAND_BYTES <= bytes {
                break;
            }
        }
        (!command.revisions.is_empty()).then_some(command)
    }
}

/// The leases that the keys of a command are attached to.
pub(super) fn leases(command: &Replicate) -> BTreeSet<i64> {
    let changes = command.revisions.iter().flat_map(|of| &of.changes);
    let leases = changes.map(|change| change.lease);
    leases.filter(|id| *id != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_proto::mvccpb::KeyValue;

    fn put(key: &'static str, revision: i64) -> Event {
        Event {
            kv: Some(KeyValue {
                key: key.into(),
                mod_revision: revision,
                lease: revision % 2,
                ..KeyValue::default()
            }),
            ..Event::default()
        }
    }

    fn counts(command: Option<Replicate>) -> Option<(i64, Vec<usize>)> {
        let command = command?;
        let counts = command.revisions.iter().map(|of| of.changes.len());
        Some((command.after, counts.collect()))
    }

    #[test]
    fn a_revision_waits_for_its_last_fragment() {
        let mut batch = Batch::new(4);
        batch
            .take(vec![put("a", 5), put("b", 5), put("a", 6)], true)
            .unwrap();
        assert_eq!(counts(batch.next_command()), Some((4, vec![2])));
        assert_eq!(counts(batch.next_command()), None);
        batch.take(vec![put("c", 6)], false).unwrap();
        batch.take(vec![put("c", 7)], false).unwrap();
        let command = batch.next_command().unwrap();
        assert_eq!(leases(&command), BTreeSet::from([1]));
        assert_eq!(counts(Some(command)), Some((5, vec![2, 1])));
    }

    #[test]
    fn a_missing_revision_is_noticed() {
        let mut batch = Batch::new(4);
        let gap = batch.take(vec![put("a", 6)], false);
        let (expected, found) = (5, 6);
        assert_eq!(gap, Err(BatchError::Gap { expected, found }));
    }

    #[test]
    fn a_large_revision_ends_a_command() {
        let large = |revision| {
            let mut event = put("a", revision);
            if let Some(pair) = &mut event.kv {
                pair.value = vec![0; COMMAND_BYTES].into();
            }
            event
        };
        let mut batch = Batch::new(1);
        batch.take(vec![large(2), put("b", 3)], false).unwrap();
        assert!(batch.is_full());
        assert_eq!(counts(batch.next_command()), Some((1, vec![1])));
        assert!(!batch.is_full());
        assert_eq!(counts(batch.next_command()), Some((2, vec![1])));
        let many = (0..40).map(|_| large(4)).collect();
        assert_eq!(batch.take(many, true), Err(BatchError::TooLarge(4)));
    }
}
