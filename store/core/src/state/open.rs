//! Creation of a new state, and opening of the state in an engine.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prost::Message;
use smallvec::SmallVec;

use super::auth::Auth;
use super::compact::Sweep;
use super::error::StateError;
use super::index::KeyIndex;
use super::leaf;
use super::leases::Leases;
use super::meta::Marks;
use super::registry::{Registry, member_key};
use super::revision::RowKey;
use super::rows::{self, Peek};
use super::running::RunningHash;
use super::shared::{Memtables, Shared};
use super::versions::{Stamp, Versions};
use super::{COMMAND_VERSION, Genesis, Limits, StateMachine, tree};
use crate::engine::{Engine, Table, WriteBatch};

impl StateMachine {
    /// Creates a state in an empty engine, durably.
    ///
    /// # Errors
    /// [`StateError::NotEmpty`], and those of the engine.
    pub fn create(
        engine: Arc<dyn Engine>,
        genesis: Genesis,
        limits: Limits,
    ) -> Result<StateMachine, StateError> {
        if Marks::load(&*engine)?.is_some() {
            return Err(StateError::NotEmpty);
        }
        let marks = Marks {
            cluster: genesis.cluster_id,
            applied: genesis.mark,
            revision: 1,
            compacted: -1,
            swept: -1,
            has_auth: false,
            is_standby: false,
        };
        let mut batch = WriteBatch::default();
        for (key, row) in marks.rows() {
            batch.put(Table::Meta, key, row);
        }
        for (key, row) in tree::founded_by(genesis.members.len()) {
            batch.put(Table::Tree, key, row);
        }
        for member in genesis.members {
            batch.put(
                Table::Members,
                member_key(member.id),
                member.encode_to_vec(),
            );
        }
        engine.write(&batch)?;
        let created = StateMachine::open(engine, limits)?;
        Ok(created.expect("the marks were just written"))
    }

    /// Opens the state in the engine, if there is one, and rebuilds the key index.
    ///
    /// # Errors
    /// [`StateError::Damaged`] if a row cannot be read, [`StateError::Newer`] for the layout of a
    /// newer release, and those of the engine.
    pub fn open(
        engine: Arc<dyn Engine>,
        limits: Limits,
    ) -> Result<Option<StateMachine>, StateError> {
        let Some(mut marks) = Marks::load(&*engine)? else {
            return Ok(None);
        };
        let hash = RunningHash::of(marks.applied.hash.take());
        let registry = Registry::load(&*engine)?;
        agree(&marks, &registry)?;
        let tree = tree::load(&*engine)?;
        let auth = Auth::load(&*engine)?;
        let leases = Leases::load(&*engine)?;
        let shared = Shared::new(engine, limits, marks.cluster, registry, auth, leases, tree);
        let leased = rebuild(&shared.index, &*shared.engine, marks.revision)?;
        shared.leases.write().attach_all(leased);
        shared.revision.store(marks.revision, Ordering::SeqCst);
        shared.compacted.store(marks.compacted, Ordering::SeqCst);
        shared.swept.store(marks.swept, Ordering::SeqCst);
        shared.applied.store(marks.applied.index, Ordering::SeqCst);
        let changed = &shared.auth_changed;
        changed.store(marks.applied.index, Ordering::SeqCst);
        let memtables = Memtables::default();
        *shared.memtables.write() = memtables.clone();
        let registry = Arc::clone(&shared.registry.read());
        let state = StateMachine {
            shared: Arc::new(shared),
            memtables,
            registry,
            durable: crate::Index(marks.applied.index),
            flushing_bytes: 0,
            rotated_at: (marks.applied.index, marks.swept),
            mark: marks.applied,
            hash,
            command_version: COMMAND_VERSION,
            changed: BTreeMap::new(),
            changed_immutable: BTreeMap::new(),
            dropped: Vec::new(),
            flushing: false,
            // A compaction that a crash interrupted starts over: rows that are already deleted do
            // no harm.
            sweep: (marks.swept < marks.compacted).then(|| Sweep::new(marks.compacted)),
        };
        state.publish_divergence();
        Ok(Some(state))
    }
}

/// Raft's membership and the members' rows are written together. raft-rs ends the process at a
/// membership that it cannot restore.
fn agree(marks: &Marks, registry: &Registry) -> Result<(), StateError> {
    let Some(conf) = marks.applied.conf_state.as_ref() else {
        return Ok(());
    };
    let members = &registry.roster.members;
    let voters = conf.voters.iter().map(|id| (*id, false));
    let learners = conf.learners.iter().map(|id| (*id, true));
    let mut named: Vec<_> = voters.chain(learners).collect();
    named.sort_unstable();
    let rows = members.iter().map(|(id, row)| (*id, row.is_learner));
    let joint = !conf.voters_outgoing.is_empty() || !conf.learners_next.is_empty();
    if named.into_iter().eq(rows) && !members.contains_key(&0) && !joint {
        return Ok(());
    }
    let ids: Vec<_> = members.keys().collect();
    Err(StateError::Damaged(format!(
        "the members' rows {ids:?} and Raft's membership differ: voters {:?}, learners {:?}",
        conf.voters, conf.learners
    )))
}

/// A row, as the index needs it.
struct IndexedRow {
    key: Box<[u8]>,
    /// A prefix as a number, which sorts most keys without comparing them.
    head: u64,
    row: RowKey,
    newest: Stamp,
}

/// Reads every row once, in the order of the revisions, and fills the index in key order, which is
/// far faster than inserting key by key. Returns the keys whose newest row has a lease, with it.
fn rebuild(
    index: &KeyIndex,
    engine: &dyn Engine,
    revision: i64,
) -> Result<impl Iterator<Item = (Box<[u8]>, i64)>, StateError> {
    let mut found = Vec::new();
    // Empty in most stores. To carry the lease in each `IndexedRow` would slow the sort.
    let mut leased: Vec<(Box<[u8]>, RowKey, i64)> = Vec::new();
    let mut wrong = None;
    engine.range(
        Table::Key,
        Bound::Unbounded,
        Bound::Unbounded,
        &mut |key, row| {
            let read = RowKey::decode(key).filter(|row| row.main <= revision);
            let read = read.zip(rows::peek(row));
            if let Some((row, peek)) = read {
                found.push(found_row(row, &peek));
                if peek.lease != 0 {
                    leased.push((peek.key.into(), row, peek.lease));
                }
            } else {
                wrong = Some(format!("row {key:02x?} at revision {revision}"));
            }
            wrong.is_none()
        },
    )?;
    if let Some(wrong) = wrong {
        return Err(StateError::Damaged(wrong));
    }
    sort(&mut found);
    fill(index, found);
    let newest = move |(key, row, lease): (Box<[u8]>, RowKey, i64)| {
        (index.at(&key, revision) == Some(row)).then_some((key, lease))
    };
    Ok(leased.into_iter().filter_map(newest))
}

fn found_row(row: RowKey, peek: &Peek<'_>) -> IndexedRow {
    IndexedRow {
        key: peek.key.into(),
        head: 0,
        row,
        newest: Stamp {
            created: peek.created,
            version: peek.version,
        },
    }
}

/// Sorts by key, then by revision.
fn sort(found: &mut [IndexedRow]) {
    let Some((first, rest)) = found.split_first() else {
        return;
    };
    let common = rest.iter().fold(first.key.len(), |common, next| {
        leaf::common(&first.key[..common], &next.key)
    });
    for row in found.iter_mut() {
        row.head = leaf::head(&row.key[common..]);
    }
    found.sort_unstable_by(|a, b| {
        let heads = a.head.cmp(&b.head);
        heads.then_with(|| (&a.key, a.row).cmp(&(&b.key, b.row)))
    });
}

fn fill(index: &KeyIndex, found: Vec<IndexedRow>) {
    let mut found = found.into_iter().peekable();
    let keys = std::iter::from_fn(|| {
        let IndexedRow {
            key, row, newest, ..
        } = found.next()?;
        let mut rows: SmallVec<[RowKey; 1]> = SmallVec::from([row]);
        let mut stamp = newest;
        while let Some(next) = found.next_if(|next| next.key == key) {
            rows.push(next.row);
            stamp = next.newest;
        }
        Some((key, Versions::new(rows, stamp)))
    });
    index.restore(keys);
}
