//! A standby: the state of another cluster, revision by revision, which clients may read only.
//!
//! The changes of a revision are applied in their order, as puts and deletes of a transaction. The
//! state before is the other cluster's, so create revisions and versions come out as they are
//! there.

use std::sync::atomic::Ordering;

use keelson_proto::etcdserverpb::CompactionRequest;
use keelson_proto::internal::auth_change::Op as AuthOp;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{AuthChange, Replicate, ReplicatedRevision};

use super::apply::SideEffects;
use super::error::Error;
use super::keys::KeyRange;
use super::leases::{Lease, LeaseChange, lease_key};
use super::registry::Registry;
use super::write::Write;
use super::{ReadView, Response, StateMachine, meta};
use crate::Index;
use crate::engine::{Change, Table};

impl StateMachine {
    /// The error for a command that a standby, or a cluster that is none, does not apply.
    pub(super) fn refused_here(&self, op: &Op) -> Option<Error> {
        let is_standby = self.registry.is_standby;
        match op {
            Op::Replicate(_) => (!is_standby).then_some(Error::NoStandby),
            // The members agree on a key for tokens at the first login.
            Op::Auth(AuthChange {
                op: Some(AuthOp::SetSecret(_)),
            }) => None,
            Op::Put(_)
            | Op::DeleteRange(_)
            | Op::Txn(_)
            | Op::Compaction(_)
            | Op::Auth(_)
            | Op::Tree(_)
            | Op::TreeExpire(_)
            | Op::LeaseGrant(_)
            | Op::LeaseRevoke(_)
            | Op::LeaseExpire(_)
            | Op::LeaseCheckpoint(_) => is_standby.then_some(Error::Standby),
            Op::Alarm(_) | Op::MemberAttributes(_) | Op::ClusterVersion(_) => None,
            Op::Downgrade(_) | Op::AsUser(_) | Op::HashCheck(_) => None,
        }
    }

    pub(super) fn apply_replicate(
        &mut self,
        request: Replicate,
        index: Index,
        effects: &mut SideEffects,
    ) -> Result<Response, Error> {
        let changes = &mut effects.leases;
        for granted in &request.leases {
            if granted.id == 0 || self.shared.leases.read().exists(granted.id) {
                continue;
            }
            let lease = Lease {
                id: granted.id,
                granted: index.0,
                ttl: granted.ttl.max(1),
                remaining: 0,
                keys: 0,
            };
            self.set_lease(lease);
            changes.push(LeaseChange::Granted(lease));
        }
        let before = self.shared.revision();
        // Those that are here already are of a proposal whose outcome was not known in time.
        if let Ok(present) = usize::try_from(before - request.after) {
            for revision in request.revisions.into_iter().skip(present) {
                self.replicate(revision);
            }
        }
        // Of another time: a lease of that id may have been granted again.
        if request.after == before {
            for id in request.gone {
                self.forget_lease(id, changes);
            }
        }
        // 0 is no compaction: a store that was never compacted is at -1.
        if 0 < request.compacted && self.shared.compacted() < request.compacted {
            self.apply_compaction(CompactionRequest {
                revision: request.compacted,
                physical: false,
            })?;
        }
        if let Some(tree) = &request.tree {
            effects.events.extend(self.replicate_tree(tree));
        }
        // Opened at another revision it would be without changes, or with more than was compared.
        if request.open && request.after == before {
            self.open_standby();
        }
        Ok(Response::Empty)
    }

    /// Applies one revision, which becomes visible as a whole.
    fn replicate(&mut self, revision: ReplicatedRevision) {
        let mut write = Write::new(&self.shared, &self.memtables, &mut self.hash);
        for change in revision.changes {
            match change.deletes {
                true => {
                    write.delete(KeyRange::One(&change.key));
                }
                false => write.put(change.key, change.value, change.lease),
            }
        }
        let revision = write.revision();
        self.shared.revision.store(revision, Ordering::SeqCst);
    }

    fn forget_lease(&mut self, id: i64, changes: &mut Vec<LeaseChange>) {
        let lease = self.shared.leases.read().get(id);
        if let Some(lease) = lease {
            self.shared.leases.write().forget(id);
            self.change(Table::Leases, lease_key(id), Change::Delete);
            changes.push(LeaseChange::Gone(lease));
        }
    }

    fn open_standby(&mut self) {
        let mut registry = Registry::clone(&self.registry);
        registry.is_standby = false;
        self.set_registry(registry);
        self.change(Table::Meta, meta::STANDBY.into(), Change::Delete);
    }
}

impl ReadView {
    /// Whether the cluster is a standby of another one.
    pub fn is_standby(&self) -> bool {
        self.shared.registry.read().is_standby
    }
}
