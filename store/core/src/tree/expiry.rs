//! Expiry of nodes.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::TreeExpire;

use super::arena::Id;
use super::{Action, Event, Tree};

/// A node to expire, ordered as they expire.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Overdue {
    expires_ns: i64,
    path: Bytes,
    id: Id,
}

impl Tree {
    /// Removes every expired node, each with an index of its own. They are ordered by expiry time,
    /// then by path, so that all members do the same.
    pub fn expire(&mut self, request: &TreeExpire) -> Vec<Arc<Event>> {
        let mut overdue: Vec<Overdue> = self.overdue(request).collect();
        overdue.sort_unstable();
        let mut events = Vec::with_capacity(overdue.len());
        for Overdue {
            expires_ns,
            path,
            id,
        } in overdue
        {
            // A directory that expired before it has removed its descendants.
            if self.deadlines.contains(&(expires_ns, id)) {
                let outcome = self.take_out(id, path, Action::Expire, request.time_ns);
                events.push(self.record(outcome));
            }
        }
        events
    }

    fn overdue(&self, request: &TreeExpire) -> impl Iterator<Item = Overdue> {
        let ended = self.deadlines.range(..=(request.time_ns, Id::MAX));
        let ended = ended.filter(|(_, id)| self.counts(*id, request.spared_index));
        ended.map(|&(expires_ns, id)| Overdue {
            expires_ns,
            path: self.arena.path(id),
            id,
        })
    }

    /// The expiry time of the node that expires next, among those whose time was set after index
    /// `spared_index`; 0 excludes none.
    pub fn next_expiry(&self, spared_index: u64) -> Option<i64> {
        let mut deadlines = self.deadlines.iter();
        let next = deadlines.find(|(_, id)| self.counts(*id, spared_index));
        next.map(|(expires_ns, _)| *expires_ns)
    }

    fn counts(&self, id: Id, spared_index: u64) -> bool {
        spared_index < self.arena[id].ttl_set
    }
}
