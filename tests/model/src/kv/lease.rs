//! Leases.

use bytes::Bytes;
use keelson_proto::mvccpb::KeyValue;

use super::txn::Turn;
use super::{Kv, Refusal};

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The id.
    pub id: i64,
    /// The index of the entry that granted it.
    pub granted: u64,
    /// The granted time to live in seconds.
    pub ttl: i64,
    /// The remaining seconds by the last checkpoint; 0 without one.
    pub remaining: i64,
    /// The attached keys, in order.
    pub keys: Vec<Bytes>,
}

impl Kv {
    /// Grants a lease by the entry of that index.
    ///
    /// # Errors
    /// The id is in use.
    pub fn grant(&mut self, id: i64, granted: u64, ttl: i64) -> Result<(), Refusal> {
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let lease = Lease {
            id,
            granted,
            ttl,
            remaining: 0,
            keys: Vec::new(),
        };
        self.leases.insert(id, lease);
        Ok(())
    }

    /// Revokes a lease and deletes its keys, in one revision.
    ///
    /// # Errors
    /// There is no such lease.
    pub fn revoke(&mut self, id: i64) -> Result<(), Refusal> {
        self.leases.remove(&id).ok_or(Refusal::LeaseNotFound)?;
        let attached = self.attached(id);
        let mut turn = Turn::new(self);
        for key in attached {
            turn.remove(&key);
        }
        turn.end();
        Ok(())
    }

    /// Revokes the lease of that id if that entry granted it.
    pub fn expire(&mut self, id: i64, granted: u64) {
        if self.granted_by(id, granted).is_some() {
            self.revoke(id).expect("it exists");
        }
    }

    /// Sets the remaining time of the lease of that id if that entry granted it.
    pub fn checkpoint(&mut self, id: i64, granted: u64, remaining: i64) {
        if let Some(lease) = self.granted_by(id, granted) {
            lease.remaining = remaining;
        }
    }

    fn granted_by(&mut self, id: i64, granted: u64) -> Option<&mut Lease> {
        let lease = self.leases.get_mut(&id);
        lease.filter(|lease| lease.granted == granted)
    }

    /// Every lease with its keys.
    pub fn leases(&self) -> Vec<Lease> {
        let with_keys = |lease: &Lease| Lease {
            keys: self.attached(lease.id),
            ..lease.clone()
        };
        self.leases.values().map(with_keys).collect()
    }

    pub(super) fn has_lease(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// The keys of a lease.
    fn attached(&self, id: i64) -> Vec<Bytes> {
        let attached = |kv: &&KeyValue| kv.lease == id;
        let pairs = self.pairs(&[], &[0], i64::MAX).into_iter();
        pairs.filter(attached).map(|kv| kv.key.clone()).collect()
    }
}
