//! The running hash: a number over everything that the entries so far have changed.
//!
//! It is over the changes, not over the contents: an entry costs some nanoseconds, however large
//! the state is. A member that applies one entry differently has another number from then on. The
//! rows of pairs count as HashKV counts them; leases, users, members, alarms and versions count by
//! their rows, the v2 tree by its events, whose rows have numbers of each member's own.
//!
//! The number is kept in the applied mark, so restarts and snapshots continue with it. A mark of an
//! earlier release has none: the number is not known until the leader's next `BEGIN` in the log.
//! Every change of what counts, or how, needs another [`HASH_SCHEME`].

use std::collections::VecDeque;

use bytes::Bytes;
use keelson_proto::internal::{AppliedHash, HashAt, HashDiffers};

use super::revision::RowKey;
use crate::engine::{Change, Table};
use crate::tree::{Event, NodeExtern};
use crate::{Index, mix};

/// The number of this release's way to compute the hash. Values of two schemes are never compared.
pub const HASH_SCHEME: u32 = 1;

/// The comparisons whose values are remembered. A verdict follows its comparison at once.
const COMPARED_MAX: usize = 4;

/// A member's hash at a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashReport {
    /// The entry of the comparison.
    pub index: Index,
    /// The hash of everything before it; `None` if it is not known here.
    pub value: Option<u64>,
}

/// A member's state is not that of the majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the state of this member differs from the majority's: before entry {index} its hash was \
     {own:016x}, theirs {agreed:016x}. It serves no client until it has the leader's state, which \
     it gets by itself; if this happens again, test its memory and disk, then replace it"
)]
pub struct Divergence {
    /// The entry of the comparison that showed it.
    pub index: Index,
    /// The member's hash there.
    pub own: u64,
    /// The majority's.
    pub agreed: u64,
}

/// What an entry of the comparison of hashes meant for this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashOutcome {
    /// The hashes are compared here.
    Compared(HashReport),
    /// The hash begins anew.
    Begun,
    /// The majority has this member's hash, or this member has none to compare.
    Agreed,
    /// The majority has another one.
    Differs(Divergence),
}

/// The hash at the applied index.
#[derive(Debug, Default)]
pub(super) struct RunningHash {
    value: Option<u64>,
    compared: VecDeque<HashAt>,
    differs: Option<HashDiffers>,
}

impl RunningHash {
    /// The hash in an applied mark.
    pub(super) fn of(stored: Option<AppliedHash>) -> RunningHash {
        let stored = stored.unwrap_or_default();
        let known = stored.scheme == HASH_SCHEME;
        let mut compared = VecDeque::from(stored.compared);
        if !known {
            compared.clear();
        }
        RunningHash {
            value: known.then_some(stored.value),
            compared,
            differs: stored.differs,
        }
    }

    /// The hash as a part of the applied mark.
    pub(super) fn stored(&self) -> Option<AppliedHash> {
        if self.value.is_none() && self.differs.is_none() {
            return None;
        }
        Some(AppliedHash {
            scheme: self.value.map_or(0, |_| HASH_SCHEME),
            value: self.value.unwrap_or(0),
            compared: self.compared.iter().copied().collect(),
            differs: self.differs,
        })
    }

    /// The divergence that was found, if this member has not been given another state since.
    pub(super) fn divergence(&self) -> Option<Divergence> {
        self.differs.map(|differs| Divergence {
            index: Index(differs.index),
            own: differs.own,
            agreed: differs.agreed,
        })
    }

    /// Begins anew at that entry.
    pub(super) fn begin(&mut self, scheme: u32, index: Index) -> HashOutcome {
        self.value = (scheme == HASH_SCHEME).then_some(mix(index.0));
        self.compared.clear();
        HashOutcome::Begun
    }

    /// Remembers the hash before that entry.
    pub(super) fn compare(&mut self, scheme: u32, index: Index) -> HashOutcome {
        let value = self.value.filter(|_| scheme == HASH_SCHEME);
        if let Some(value) = value {
            if self.compared.len() == COMPARED_MAX {
                self.compared.pop_front();
            }
            let index = index.0;
            self.compared.push_back(HashAt { index, value });
        }
        HashOutcome::Compared(HashReport { index, value })
    }

    /// The majority had that value at the comparison.
    pub(super) fn judge(&mut self, scheme: u32, index: Index, agreed: u64) -> HashOutcome {
        let known = scheme == HASH_SCHEME && self.value.is_some();
        let mut compared = self.compared.iter().filter(|_| known);
        let own = compared.find(|at| at.index == index.0).map(|at| at.value);
        match own.filter(|own| *own != agreed) {
            None => HashOutcome::Agreed,
            Some(own) => {
                self.differs = Some(HashDiffers {
                    index: index.0,
                    own,
                    agreed,
                });
                HashOutcome::Differs(Divergence { index, own, agreed })
            }
        }
    }

    /// Adds a number.
    pub(super) fn word(&mut self, word: u64) {
        if let Some(value) = &mut self.value {
            *value = mix(*value ^ word);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.value.is_some() {
            let crc = u64::from(crc32c::crc32c(bytes));
            self.word(crc << 32 | bytes.len() as u64 & u64::from(u32::MAX));
        }
    }

    /// Adds a row of a pair, or a tombstone.
    pub(super) fn row(&mut self, key: RowKey, row: &[u8]) {
        if self.value.is_some() {
            self.word(key.main as u64);
            self.word(u64::from(key.sub) << 1 | u64::from(key.tombstone));
            self.bytes(row);
        }
    }

    /// Adds a change of a small table's row.
    pub(super) fn change(&mut self, table: Table, key: &Bytes, change: &Change) {
        if self.value.is_none() {
            return;
        }
        let (kind, row): (u64, &[u8]) = match change {
            Change::Put(row) => (1, row),
            Change::Delete => (0, &[]),
        };
        self.word(u64::from(table as u8) << 1 | kind);
        self.bytes(key);
        self.bytes(row);
    }

    /// Adds an event of the v2 tree.
    pub(super) fn event(&mut self, event: &Event) {
        if self.value.is_none() {
            return;
        }
        self.word(u64::from(event.action as u8) << 1 | u64::from(event.refresh));
        self.word(event.index);
        self.node(&event.node);
        if let Some(before) = &event.prev {
            self.node(before);
        }
    }

    /// Adds a node of the v2 tree.
    pub(super) fn node(&mut self, node: &NodeExtern) {
        self.bytes(&node.key);
        self.bytes(node.value.as_deref().unwrap_or_default());
        self.word(node.created);
        self.word(node.modified << 1 | u64::from(node.dir));
        self.word(node.expires_ns.unwrap_or(0) as u64);
    }
}
