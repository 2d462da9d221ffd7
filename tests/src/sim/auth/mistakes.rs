//! Mutants of rights: checks that a shell leaves out.

use std::ops::Bound;

use bytes::Bytes;
use keelson_core::engine::{Engine, MemoryEngine, Table, WriteBatch};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{RequestOp, TxnRequest};
use keelson_proto::internal::command::Op;

use crate::sim::mutant::Mutant;
use crate::sim::world::World;

impl Mutant {
    /// Whether only users can detect the mutant.
    pub(in crate::sim) fn is_of_auth(self) -> bool {
        matches!(
            self,
            Mutant::NestedUnchecked
                | Mutant::RightsOfProposal
                | Mutant::WatchOutlivesRights
                | Mutant::SnapshotWithoutAuth
                | Mutant::LoginUnseen
        )
    }
}

impl World {
    /// A mutant: what remains of a transaction without the nested ones, if it has any.
    pub(super) fn mistake_nested(&self, op: &Op) -> Option<Op> {
        match op {
            Op::Txn(txn) if self.mutant == Some(Mutant::NestedUnchecked) && has_nested(txn) => {
                Some(Op::Txn(outermost(txn)))
            }
            _ => None,
        }
    }

    /// Whether a mutant leaves out the check of a command when it is applied.
    pub(super) fn is_unchecked(&self, op: &Op) -> bool {
        match self.mutant {
            Some(Mutant::NestedUnchecked) => self.mistake_nested(op).is_some(),
            Some(Mutant::RightsOfProposal) => true,
            _ => false,
        }
    }
}

fn is_nested(op: &RequestOp) -> bool {
    matches!(op.request, Some(Request::RequestTxn(_)))
}

fn has_nested(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(is_nested)
}

fn outermost(txn: &TxnRequest) -> TxnRequest {
    let mut outer = txn.clone();
    outer.success.retain(|op| !is_nested(op));
    outer.failure.retain(|op| !is_nested(op));
    outer
}

/// A mutant: deletes all rows with users and roles.
pub(in crate::sim) fn forget_rows(engine: &MemoryEngine) {
    let mut batch = WriteBatch::default();
    let mut note = |key: &[u8], _: &[u8]| {
        batch.delete(Table::Auth, Bytes::copy_from_slice(key));
        true
    };
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    let read = engine.range(Table::Auth, from, to, &mut note);
    read.expect("memory does not fail");
    engine.write(&batch).expect("memory does not fail");
}
