//! Application of the commands that grant, revoke, expire and checkpoint leases.

use std::sync::atomic::Ordering;

use keelson_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{LeaseCheckpoint, LeaseExpire, LeaseName};

use super::error::Error;
use super::keys::KeyRange;
use super::leases::{LEASE_TTL_MAX, Lease, LeaseChange, lease_key};
use super::range::header;
use super::write::Write;
use super::{Response, StateMachine};
use crate::engine::{Change, Table};
use crate::{Committed, Index, Term};

impl StateMachine {
    pub(super) fn apply_lease(
        &mut self,
        op: &Op,
        committed: &Committed,
        changes: &mut Vec<LeaseChange>,
    ) -> Result<Response, Error> {
        let (index, term) = (committed.entry.index, committed.entry.term);
        match op {
            Op::LeaseGrant(request) => self.apply_grant(request, index, changes),
            Op::LeaseRevoke(request) => self.apply_revoke(request, changes),
            Op::LeaseExpire(request) => Ok(self.apply_lease_expire(request, term, changes)),
            Op::LeaseCheckpoint(request) => Ok(self.apply_lease_checkpoint(request, term, changes)),
            _ => unreachable!("a command of a lease"),
        }
    }

    fn apply_grant(
        &mut self,
        request: &LeaseGrantRequest,
        index: Index,
        changes: &mut Vec<LeaseChange>,
    ) -> Result<Response, Error> {
        // The member that proposed it has replaced 0 by an id.
        if request.id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if LEASE_TTL_MAX < request.ttl {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.shared.leases.read().exists(request.id) {
            return Err(Error::LeaseExists);
        }
        let lease = Lease {
            id: request.id,
            granted: index.0,
            ttl: request.ttl.max(1),
            remaining: 0,
            keys: 0,
        };
        self.set_lease(lease);
        changes.push(LeaseChange::Granted(lease));
        Ok(Response::LeaseGrant(LeaseGrantResponse {
            header: header(self.shared.revision()),
            id: lease.id,
            ttl: lease.ttl,
            error: String::new(),
        }))
    }

    fn apply_revoke(
        &mut self,
        request: &LeaseRevokeRequest,
        changes: &mut Vec<LeaseChange>,
    ) -> Result<Response, Error> {
        let lease = self.shared.leases.read().get(request.id);
        self.end_lease(lease.ok_or(Error::LeaseNotFound)?, changes);
        Ok(Response::LeaseRevoke(LeaseRevokeResponse {
            header: header(self.shared.revision()),
        }))
    }

    fn apply_lease_expire(
        &mut self,
        request: &LeaseExpire,
        term: Term,
        changes: &mut Vec<LeaseChange>,
    ) -> Response {
        // Appended by a later leader: the proposing one has not seen the renewals there.
        if request.term == term.0 {
            for name in &request.leases {
                if let Some(lease) = self.named(name) {
                    self.end_lease(lease, changes);
                }
            }
        }
        Response::Empty
    }

    fn apply_lease_checkpoint(
        &mut self,
        request: &LeaseCheckpoint,
        term: Term,
        changes: &mut Vec<LeaseChange>,
    ) -> Response {
        if request.term != term.0 {
            return Response::Empty;
        }
        for checkpoint in &request.leases {
            let lease = checkpoint.lease.as_ref().and_then(|name| self.named(name));
            if let Some(lease) = lease {
                let lease = Lease {
                    remaining: checkpoint.remaining_ttl.clamp(0, lease.ttl),
                    ..lease
                };
                self.set_lease(lease);
                changes.push(LeaseChange::Checkpointed(lease));
            }
        }
        Response::Empty
    }

    /// The lease of that id, unless it was granted again since.
    fn named(&self, name: &LeaseName) -> Option<Lease> {
        let lease = self.shared.leases.read().get(name.id);
        lease.filter(|lease| lease.granted == name.granted)
    }

    /// Deletes the attached keys in key order, in one revision, then the lease.
    fn end_lease(&mut self, lease: Lease, changes: &mut Vec<LeaseChange>) {
        let keys: Vec<_> = {
            let leases = self.shared.leases.read();
            leases.keys_of(lease.id).cloned().collect()
        };
        let mut write = Write::new(&self.shared, &self.memtables, &mut self.hash);
        for key in keys {
            write.delete(KeyRange::One(&key));
        }
        let revision = write.revision();
        self.shared.revision.store(revision, Ordering::SeqCst);
        self.shared.leases.write().remove(lease.id);
        self.change(Table::Leases, lease_key(lease.id), Change::Delete);
        changes.push(LeaseChange::Gone(lease));
    }

    pub(super) fn set_lease(&mut self, lease: Lease) {
        self.shared.leases.write().set(lease);
        self.change(Table::Leases, lease_key(lease.id), Change::Put(lease.row()));
    }
}
