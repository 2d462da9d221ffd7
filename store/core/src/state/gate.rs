//! Which kinds of command may be proposed: those that every member can apply.
//!
//! A member stops before a command that it does not understand (`apply.rs`). So a new kind must not
//! get into the log while a member runs an older release. Every release has a number, the newest
//! kind of command that it can apply. Each member publishes its number with its name and client
//! URLs. The cluster's number is the minimum over all members, like etcd's cluster version.

use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{PutRequest, TxnRequest};
use keelson_proto::internal::command::Op;

use super::auth::AUTH_COMMANDS;
use super::error::Error;
use super::registry::Registry;
use super::{ReadView, StateMachine};

/// The number of this release. Raise it by one with every new kind of command, and with every field
/// of an old one that changes how it is applied.
pub const COMMAND_VERSION: u32 = 5;

/// The number of the comparison of running hashes.
pub const HASH_COMMANDS: u32 = 5;

/// The number of the replication of the v2 tree to a standby.
pub(super) const TREE_REPLICATION: u32 = 5;

/// The number of the release before this one: what the cluster is held to while a downgrade is in
/// progress.
pub const PREVIOUS_COMMAND_VERSION: u32 = COMMAND_VERSION - 1;

/// The number of a member that has not published one: releases before the number existed.
const UNPUBLISHED: u32 = 1;

/// The number that a command needs. There is no wildcard arm: a new kind must state its number
/// here.
pub(super) fn needed(op: &Op) -> u32 {
    match op {
        Op::Put(put) => lease_needs(put),
        Op::Txn(txn) => txn_needs(txn),
        Op::DeleteRange(_) | Op::Compaction(_) | Op::Alarm(_) => 1,
        Op::MemberAttributes(_) | Op::ClusterVersion(_) | Op::Tree(_) | Op::TreeExpire(_) => 1,
        Op::LeaseGrant(_) | Op::LeaseRevoke(_) => 2,
        Op::LeaseExpire(_) | Op::LeaseCheckpoint(_) => 2,
        Op::Auth(_) => AUTH_COMMANDS,
        Op::AsUser(of) => {
            let op = of.command.as_ref().and_then(|command| command.op.as_ref());
            op.map_or(0, needed).max(AUTH_COMMANDS)
        }
        Op::Replicate(request) if request.tree.is_some() => TREE_REPLICATION,
        Op::Replicate(_) => 4,
        Op::HashCheck(_) => HASH_COMMANDS,
        Op::Downgrade(_) => 5,
    }
}

/// Whether the command is a downgrade, or one of a user.
fn is_downgrade(op: &Op) -> bool {
    match op {
        Op::AsUser(of) => {
            let op = of.command.as_ref().and_then(|command| command.op.as_ref());
            matches!(op, Some(Op::Downgrade(_)))
        }
        op => matches!(op, Op::Downgrade(_)),
    }
}

/// Releases of version 1 apply a put with a lease as a refusal: no lease exists for them.
fn lease_needs(put: &PutRequest) -> u32 {
    1 + u32::from(put.lease != 0)
}

fn txn_needs(txn: &TxnRequest) -> u32 {
    let ops = txn.success.iter().chain(&txn.failure);
    let needs = ops.map(|op| match &op.request {
        Some(Request::RequestPut(put)) => lease_needs(put),
        Some(Request::RequestTxn(nested)) => txn_needs(nested),
        _ => 1,
    });
    needs.max().unwrap_or(1)
}

impl Registry {
    /// The newest kind of command that may be proposed: one that every member can apply and, while
    /// a downgrade is in progress, will be able to.
    pub(super) fn command_version(&self) -> u32 {
        match self.downgrade {
            Some(_) => self.understood().min(PREVIOUS_COMMAND_VERSION),
            None => self.understood(),
        }
    }

    /// The newest kind of command that every member can apply, learners included. A member that has
    /// never started does not count: it begins with the log, or a snapshot, that the others have,
    /// and commands that they use would stop working until its first start.
    pub(super) fn understood(&self) -> u32 {
        self.started().min().unwrap_or(UNPUBLISHED)
    }

    /// The numbers of the members that have started.
    pub(super) fn started(&self) -> impl Iterator<Item = u32> {
        let members = self.roster.members.values();
        let started = members.filter(|member| !member.name.is_empty());
        started.map(|member| self.command_version_of(member.id))
    }

    pub(super) fn command_version_of(&self, member: u64) -> u32 {
        let published = self.command_versions.get(&member).copied();
        published.unwrap_or(UNPUBLISHED)
    }
}

fn admit(needed: u32, understood: u32) -> Result<(), Error> {
    match needed <= understood {
        true => Ok(()),
        false => Err(Error::NotEveryMember),
    }
}

impl StateMachine {
    /// Whether every member understands the comparison of running hashes.
    pub fn admits_hashes(&self) -> bool {
        HASH_COMMANDS <= self.registry.command_version()
    }
}

impl ReadView {
    /// The newest kind of command that every member of the cluster can apply.
    pub fn command_version(&self) -> u32 {
        self.shared.registry.read().command_version()
    }

    /// The newest kind of command that every member of the cluster can apply, whether or not it may
    /// be proposed.
    pub fn understood(&self) -> u32 {
        self.shared.registry.read().understood()
    }

    /// The number that this member has published.
    pub fn command_version_of(&self, member: u64) -> u32 {
        self.shared.registry.read().command_version_of(member)
    }

    /// Whether the command may be proposed.
    ///
    /// # Errors
    /// A member cannot apply it yet.
    pub fn admits(&self, op: &Op) -> Result<(), Error> {
        match needed(op) {
            UNPUBLISHED => Ok(()),
            // A downgrade in progress does not stop its own cancellation.
            needed if is_downgrade(op) => admit(needed, self.shared.registry.read().understood()),
            needed => admit(needed, self.command_version()),
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::RequestOp;

    use super::*;

    /// Such a member would answer "lease not found" where all others write the pair.
    #[test]
    fn a_put_with_a_lease_waits_until_every_member_has_leases() {
        let put = |lease| PutRequest {
            lease,
            ..PutRequest::default()
        };
        let nested = |put| TxnRequest {
            failure: vec![RequestOp {
                request: Some(Request::RequestPut(put)),
            }],
            ..TxnRequest::default()
        };
        let outer = |txn| TxnRequest {
            success: vec![RequestOp {
                request: Some(Request::RequestTxn(txn)),
            }],
            ..TxnRequest::default()
        };
        for lease in [0, 7] {
            let expected = 1 + u32::from(lease != 0);
            assert_eq!(needed(&Op::Put(put(lease))), expected);
            assert_eq!(needed(&Op::Txn(outer(nested(put(lease))))), expected);
        }
    }

    #[test]
    fn a_new_kind_is_admitted_when_every_member_understands_it() {
        let mut registry = Registry::default();
        for id in 1..=4 {
            let name = if id == 4 { "" } else { "started" };
            let member = keelson_proto::etcdserverpb::Member {
                id,
                name: name.to_owned(),
                ..Default::default()
            };
            registry.roster.members.insert(id, member);
        }
        let admitted = |registry: &Registry| admit(2, registry.command_version());
        assert_eq!(admitted(&registry), Err(Error::NotEveryMember));
        registry.command_versions.insert(1, 2);
        registry.command_versions.insert(2, 3);
        assert_eq!(admitted(&registry), Err(Error::NotEveryMember));
        // A removed member does not count, nor one that has never started.
        registry.command_versions.insert(9, 1);
        registry.command_versions.insert(3, 2);
        assert_eq!(admitted(&registry), Ok(()));
        assert_eq!(
            admit(3, registry.command_version()),
            Err(Error::NotEveryMember)
        );
        assert_eq!(admit(1, Registry::default().command_version()), Ok(()));
    }
}
