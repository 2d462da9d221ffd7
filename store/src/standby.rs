//! What the follower of another cluster needs of its standby.

use keelson_core::state::Response;
use keelson_proto::internal::Replicate;
use keelson_proto::internal::command::Op;

use crate::requests::unexpected;
use crate::{Error, Store};

impl Store {
    /// Whether the cluster is a standby of another one, which refuses the changes of clients.
    pub fn is_standby(&self) -> bool {
        self.view().is_standby()
    }

    /// The revision of this member's applied state.
    pub fn revision(&self) -> i64 {
        self.view().revision()
    }

    /// The compaction of this member's applied state; -1 before the first.
    pub fn compacted(&self) -> i64 {
        self.view().compact_revision()
    }

    /// The number of members, learners included, in this member's applied state.
    pub fn member_count(&self) -> usize {
        self.view().members().len()
    }

    /// Whether a lease is in this member's applied state.
    pub fn has_lease(&self, id: i64) -> bool {
        self.view().lease(id).is_some()
    }

    /// The ids of the leases in this member's applied state.
    pub fn lease_ids(&self) -> Vec<i64> {
        let leases = self.view().leases();
        leases.iter().map(|lease| lease.id).collect()
    }

    /// Refuses what a standby does not do.
    ///
    /// # Errors
    /// The cluster is a standby.
    pub(crate) fn refuse_standby(&self) -> Result<(), Error> {
        match self.is_standby() {
            true => Err(keelson_core::state::Error::Standby.into()),
            false => Ok(()),
        }
    }

    /// Applies changes of the cluster that this one is a standby of. Revisions that were applied
    /// before are skipped, so a request whose outcome is unknown may be repeated.
    ///
    /// # Errors
    /// The cluster is no standby; and those of [`Store::put`].
    pub async fn replicate(&self, request: Replicate) -> Result<(), Error> {
        match self.propose(Op::Replicate(request)).await? {
            Response::Empty => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
