//! Mutants of the v2 tree: mistakes that a shell, or the tree itself, could make.

use std::ops::Bound;

use bytes::Bytes;
use keelson_core::engine::{Engine, MemoryEngine, Table, WriteBatch};
use keelson_core::tree::{NodeExtern, TreeError};
use keelson_core::{Committed, EntryKind, MemberId, proposal};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::tree_request::Op as TreeOp;
use keelson_proto::internal::{Command, TreeRequest};
use prost::Message;

use crate::sim::mutant::Mutant;
use crate::sim::world::World;

impl World {
    /// Applies the mutant's change to an entry.
    pub(in crate::sim) fn mistake_entry(&self, id: MemberId, entry: &mut Committed) {
        let (Some(mutant), EntryKind::Command) = (self.mutant, entry.entry.kind) else {
            return;
        };
        let raft_index = entry.entry.index.0;
        let Some((request, command)) = proposal::decode(&entry.entry.data) else {
            return;
        };
        let Ok(mut command) = Command::decode(command) else {
            return;
        };
        match (mutant, &mut command.op) {
            (Mutant::ExpiryByOwnClock, Some(Op::TreeExpire(expire))) => {
                expire.time_ns = self.clock_ns(id);
            }
            (Mutant::InOrderByRaftIndex, Some(Op::Tree(change)))
                if change.op() == TreeOp::CreateInOrder =>
            {
                let name = format!("/{raft_index:020}");
                change.path = [&change.path[..], name.as_bytes()].concat().into();
                change.set_op(TreeOp::Create);
            }
            (Mutant::SwapByCreated, Some(Op::Tree(change))) if change.prev_index != 0 => {
                self.compare_with_created(id, change);
            }
            (Mutant::LeaseExpiredByOldLeader, Some(Op::LeaseExpire(expire))) => {
                expire.term = entry.entry.term.0;
            }
            _ => return,
        }
        entry.entry.data = proposal::encode(request, &command.encode_to_vec());
    }

    fn compare_with_created(&self, id: MemberId, change: &mut TreeRequest) {
        let life = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        let machine = life.and_then(|life| life.machine());
        let found = machine.map(|machine| machine.view().tree_get(&change.path, false, 0));
        if let Some(Ok((node, _))) = found {
            change.prev_index = match change.prev_index == node.created {
                true => node.modified,
                false => node.created.saturating_sub(1).max(1),
            };
        }
    }

    /// The state of a few changes ago.
    pub(super) fn read_of_the_past(
        &self,
        path: &[u8],
        recursive: bool,
        now_ns: i64,
    ) -> Result<(NodeExtern, u64), TreeError> {
        let model = &self.tree.log.model;
        let index = model.index().saturating_sub(10);
        let node = model.get(path, recursive, index, now_ns)?;
        Ok((node, index))
    }
}

/// Deletes the rows of the tree's events.
pub(in crate::sim) fn forget_history(engine: &MemoryEngine) {
    forget(engine, |key| key.starts_with(b"e"));
}

/// Deletes all rows of the tree.
pub(in crate::sim) fn forget_rows(engine: &MemoryEngine) {
    forget(engine, |_| true);
}

fn forget(engine: &MemoryEngine, which: impl Fn(&[u8]) -> bool) {
    let mut batch = WriteBatch::default();
    let mut note = |key: &[u8], _: &[u8]| {
        if which(key) {
            batch.delete(Table::Tree, Bytes::copy_from_slice(key));
        }
        true
    };
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    let read = engine.range(Table::Tree, from, to, &mut note);
    read.expect("memory does not fail");
    engine.write(&batch).expect("memory does not fail");
}
