//! The end of nodes whose time is over.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::TreeExpire;

use super::arena::Id;
use super::{Action, Event, Tree};

/// A node whose time is over; in the order in which they go.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Overdue {
    expires_ns: i64,
    path: Bytes,
    id: Id,
}

impl Tree {
    /// Takes out every node whose time is over, each with an index of its own: the oldest first,
    /// and by path where that is the same, so that all members do alike.
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
            // A directory takes along what it holds.
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

    /// When the next node ends, of those whose time was set after that index; 0 leaves none out.
    pub fn next_expiry(&self, spared_index: u64) -> Option<i64> {
        let mut deadlines = self.deadlines.iter();
        let next = deadlines.find(|(_, id)| self.counts(*id, spared_index));
        next.map(|(expires_ns, _)| *expires_ns)
    }

    fn counts(&self, id: Id, spared_index: u64) -> bool {
        spared_index < self.arena[id].ttl_set
    }
}
