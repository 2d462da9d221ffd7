//! Leases, and the keys attached to them.
//!
//! A lease is a row with its time to live; a key is attached by the lease in its newest row, as in
//! etcd. Both directions of the attachment are in memory, for attached keys only: about 130 bytes a
//! key of 24 bytes. No time is in the state: the leader decides what expires
//! (`crate::member::Lessor`), and proposes it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::{LeaseName, LeaseRow};
use prost::Message;

use super::ReadView;
use super::error::StateError;
use super::registry::table;
use crate::engine::{Engine, Table};

/// The longest time to live, in seconds; etcd's.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// A lease as every member holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id; never 0.
    pub id: i64,
    /// The index of the entry that granted it. It distinguishes leases of one id.
    pub granted: u64,
    /// The granted time to live, in seconds.
    pub ttl: i64,
    /// The time to live that was left at the last checkpoint, in seconds; 0 for all of it.
    pub remaining: i64,
    /// The number of attached keys.
    pub keys: usize,
}

impl Lease {
    /// Id and grant, which together are never used again.
    pub fn name(&self) -> LeaseName {
        LeaseName {
            id: self.id,
            granted: self.granted,
        }
    }

    pub(super) fn row(&self) -> Bytes {
        let row = LeaseRow {
            id: self.id,
            ttl: self.ttl,
            remaining_ttl: self.remaining,
            granted: self.granted,
        };
        Bytes::from(row.encode_to_vec())
    }
}

/// What an entry did to a lease, for the leader's lessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was granted.
    Granted(Lease),
    /// Its remaining time to live was recorded, or cleared.
    Checkpointed(Lease),
    /// It was revoked, or has expired; its keys are deleted.
    Gone(Lease),
}

/// The leases at one index.
#[derive(Default)]
pub(super) struct Leases {
    by_id: BTreeMap<i64, Lease>,
    /// Lease and key: the keys of one lease are adjacent, in key order.
    attached: BTreeSet<(i64, Arc<[u8]>)>,
    /// The lease of each attached key; both share the key's bytes.
    lease_of: BTreeMap<Arc<[u8]>, i64>,
}

impl Leases {
    pub(super) fn get(&self, id: i64) -> Option<Lease> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn exists(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Lease> {
        self.by_id.values().copied()
    }

    /// Every lease in the order of the rows' keys, in which an id is an unsigned number.
    pub(super) fn in_row_order(&self) -> impl Iterator<Item = Lease> {
        let (negative, positive) = (self.by_id.range(..0), self.by_id.range(0..));
        positive.chain(negative).map(|(_, lease)| *lease)
    }

    /// Adds a lease, or replaces its times.
    pub(super) fn set(&mut self, lease: Lease) {
        self.by_id.insert(lease.id, lease);
    }

    /// Removes a lease, whose keys are deleted already.
    pub(super) fn remove(&mut self, id: i64) {
        self.by_id.remove(&id);
    }

    /// Removes a lease, and leaves its keys as they are.
    pub(super) fn forget(&mut self, id: i64) {
        let keys: Vec<_> = self.keys_of(id).cloned().collect();
        keys.iter().for_each(|key| self.detach(key));
        self.remove(id);
    }

    /// Attaches a written key to the lease of its newest row, or to none for 0.
    pub(super) fn attach(&mut self, key: &[u8], lease: i64) {
        if lease == 0 {
            return self.detach(key);
        }
        match self.lease_of.get(key) {
            Some(before) if *before == lease => return,
            Some(_) => self.detach(key),
            None => {}
        }
        if let Some(found) = self.by_id.get_mut(&lease) {
            let key: Arc<[u8]> = key.into();
            found.keys += 1;
            self.attached.insert((lease, Arc::clone(&key)));
            self.lease_of.insert(key, lease);
        }
    }

    /// Detaches a key that was deleted, or written without a lease.
    pub(super) fn detach(&mut self, key: &[u8]) {
        // Without attached keys, as in most stores, a write costs nothing here.
        let Some((key, lease)) = self.lease_of.remove_entry(key) else {
            return;
        };
        self.attached.remove(&(lease, key));
        if let Some(found) = self.by_id.get_mut(&lease) {
            found.keys -= 1;
        }
    }

    /// The keys of a lease, in key order.
    pub(super) fn keys_of(&self, lease: i64) -> impl Iterator<Item = &Arc<[u8]>> {
        let keys = self.attached.range((lease, Arc::default())..);
        let keys = keys.take_while(move |(of, _)| *of == lease);
        keys.map(|(_, key)| key)
    }

    /// The first key of a lease at or after that one.
    pub(super) fn next_key_of(&self, lease: i64, from: &[u8]) -> Option<&[u8]> {
        let mut rest = self.attached.range((lease, Arc::from(from))..);
        let (of, key) = rest.next()?;
        (*of == lease).then_some(&**key)
    }

    /// The first attached key of any lease at or after that one.
    pub(super) fn next_attached(&self, from: &[u8]) -> Option<&[u8]> {
        let rest = (Bound::Included(from), Bound::Unbounded);
        let (key, _) = self.lease_of.range::<[u8], _>(rest).next()?;
        Some(key)
    }

    /// Loads the leases from the engine, without their keys.
    pub(super) fn load(engine: &dyn Engine) -> Result<Leases, StateError> {
        let mut leases = Leases::default();
        for (key, row) in table(engine, Table::Leases)? {
            let row = LeaseRow::decode(row).map_err(|error| damaged(&key, &error.to_string()))?;
            if lease_key(row.id) != key || row.id == 0 {
                return Err(damaged(&key, "another id in the row"));
            }
            leases.set(Lease {
                id: row.id,
                granted: row.granted,
                ttl: row.ttl,
                remaining: row.remaining_ttl,
                keys: 0,
            });
        }
        Ok(leases)
    }

    /// Attaches the keys of loaded leases, each at most once: far cheaper than one by one.
    pub(super) fn attach_all(&mut self, keys: impl Iterator<Item = (Box<[u8]>, i64)>) {
        let mut pairs = Vec::new();
        for (key, lease) in keys {
            if let Some(found) = self.by_id.get_mut(&lease) {
                found.keys += 1;
                pairs.push((lease, Arc::<[u8]>::from(key)));
            }
        }
        self.lease_of = pairs.iter().map(|(id, key)| (key.clone(), *id)).collect();
        self.attached = pairs.into_iter().collect();
    }
}

/// The key of a lease's row.
pub(super) fn lease_key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn damaged(key: &[u8], why: &str) -> StateError {
    StateError::Damaged(format!("lease {key:02x?}: {why}"))
}

impl ReadView {
    /// The lease of that id.
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.shared.leases.read().get(id)
    }

    /// Every lease, by id.
    pub fn leases(&self) -> Vec<Lease> {
        self.shared.leases.read().all().collect()
    }

    /// The keys attached to a lease, in key order.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let leases = self.shared.leases.read();
        let keys = leases.keys_of(id);
        keys.map(|key| Bytes::copy_from_slice(key)).collect()
    }
}
