//! `--force-new-cluster`: recovery after a permanent loss of quorum, as a cluster of one member.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::ConfState;
use prost::Message;

use super::error::StateError;
use super::meta::Marks;
use super::registry::{Registry, member_key};
use super::{Limits, StateMachine};
use crate::engine::{Engine, Table, WriteBatch};
use crate::{Committed, ConfOutcome, Entry, EntryKind, MemberId, ProposalId};

impl StateMachine {
    /// Applies the rest of this member's log and makes this member the only one, durably.
    /// Uncommitted entries are applied as well, since without a quorum their outcome is unknown.
    /// The other members are removed permanently: they must not rejoin with their old data.
    /// Membership entries of the rest are skipped.
    ///
    /// # Errors
    /// Those of the engine and of applying; this member is not among the members.
    pub fn force_new_cluster(
        mut self,
        engine: Arc<dyn Engine>,
        member: MemberId,
        rest: Vec<Entry>,
        limits: Limits,
    ) -> Result<StateMachine, StateError> {
        if !self.registry.roster.members.contains_key(&member.0) {
            return Err(StateError::NotAMember { member });
        }
        for entry in rest {
            if entry.index.0 <= self.mark.index {
                continue;
            }
            let conf = (entry.kind == EntryKind::Membership).then(|| ConfOutcome {
                id: ProposalId::default(),
                change: None,
                accepted: false,
                conf_state: self.mark.conf_state.clone().unwrap_or_default(),
            });
            self.apply(&Committed { entry, conf }, false)?;
        }
        if let Some(flush) = self.rotate() {
            engine.write(&flush.batch)?;
            self.flushed(flush);
        }
        drop(self);
        leave_only(&*engine, member)?;
        let alone = StateMachine::open(engine, limits)?;
        Ok(alone.expect("the state was just written"))
    }
}

fn leave_only(engine: &dyn Engine, member: MemberId) -> Result<(), StateError> {
    let Some(mut marks) = Marks::load(engine)? else {
        return Ok(());
    };
    marks.applied.conf_state = Some(ConfState {
        voters: vec![member.0],
        ..ConfState::default()
    });
    // Changed outside of the log. There is no majority any more that this member could differ from.
    marks.applied.hash = None;
    let mut batch = WriteBatch::default();
    for (key, row) in marks.rows() {
        batch.put(Table::Meta, key, row);
    }
    for (id, mut other) in Registry::load(engine)?.roster.members {
        if id == member.0 {
            // It may have been a learner, and is the only voter now.
            other.is_learner = false;
            batch.put(Table::Members, member_key(id), other.encode_to_vec());
        } else {
            batch.delete(Table::Members, member_key(id));
            batch.put(Table::Removed, member_key(id), Bytes::new());
        }
    }
    Ok(engine.write(&batch)?)
}
