//! What the follower of another cluster needs of its standby.

use std::sync::Arc;

use keelson_core::state::Response;
use keelson_core::state::auth::Auth;
use keelson_core::tree::{NodeExtern, NodeExterns, WalkScope};
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

    /// Users and roles in this member's applied state.
    pub fn auth(&self) -> Arc<Auth> {
        self.view().auth()
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

    /// The index of the v2 tree in this member's applied state.
    pub fn tree_index(&self) -> u64 {
        self.view().tree_index()
    }

    /// The v2 node at a whole path in this member's applied state, without its children.
    pub fn tree_node(&self, path: &[u8]) -> Option<NodeExtern> {
        let (node, _) = self.view().tree_get(path, false, i64::MAX).ok()?;
        let nodes = NodeExterns::new();
        Some(NodeExtern { nodes, ..node })
    }

    /// The v2 nodes below a directory in this member's applied state, without their children and
    /// with remaining times of 0; parents come first.
    pub fn tree_below(&self, path: &[u8], scope: WalkScope) -> Vec<NodeExtern> {
        self.view().tree_below(path, scope)
    }

    /// Runs a computation that takes long, such as a walk of the whole v2 tree, outside of the
    /// threads that serve. A stop waits for it, for 2 s at most.
    ///
    /// # Errors
    /// [`Error::Internal`]: it has panicked.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        let computing = self.inner.shared.jobs.spawn_blocking(move || work(&store));
        computing
            .await
            .map_err(|error| Error::Internal(error.to_string()))
    }

    /// Whether a request of a client would fit into the quota. What is followed is not refused for
    /// space.
    pub fn has_room(&self) -> bool {
        self.view().has_room(1)
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
