//! Which kinds of command may be proposed: those that every member can apply.
//!
//! A member stops before a command that it does not understand (`apply.rs`). So a new kind must not
//! get into the log while a member runs an older release. Every release has a number, the newest
//! kind of command that it can apply. Each member publishes its number with its name and client
//! URLs. The cluster's number is the minimum over all members, like etcd's cluster version.

use keelson_proto::internal::command::Op;

use super::ReadView;
use super::error::Error;
use super::registry::Registry;

/// The number of this release. Raise it by one with every new kind of command, and with every field
/// of an old one that changes how it is applied.
pub const COMMAND_VERSION: u32 = 1;

/// The number of a member that has not published one: releases before the number existed.
const UNPUBLISHED: u32 = 1;

/// The number that a command needs. There is no wildcard arm: a new kind must state its number
/// here.
fn needed(op: &Op) -> u32 {
    match op {
        Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::Compaction(_) | Op::Alarm(_) => 1,
        Op::MemberAttributes(_) | Op::ClusterVersion(_) | Op::Tree(_) | Op::TreeExpire(_) => 1,
    }
}

impl Registry {
    /// The newest kind of command that every member can apply, learners included.
    pub(super) fn command_version(&self) -> u32 {
        let members = self.roster.members.keys();
        let versions = members.map(|id| self.command_version_of(*id));
        versions.min().unwrap_or(UNPUBLISHED)
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

impl ReadView {
    /// The newest kind of command that every member of the cluster can apply.
    pub fn command_version(&self) -> u32 {
        self.shared.registry.read().command_version()
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
            needed => admit(needed, self.command_version()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_kind_is_admitted_when_every_member_understands_it() {
        let mut registry = Registry::default();
        for id in 1..=3 {
            registry.roster.members.insert(id, Default::default());
        }
        let admitted = |registry: &Registry| admit(2, registry.command_version());
        assert_eq!(admitted(&registry), Err(Error::NotEveryMember));
        registry.command_versions.insert(1, 2);
        registry.command_versions.insert(2, 3);
        assert_eq!(admitted(&registry), Err(Error::NotEveryMember));
        // A removed member does not count.
        registry.command_versions.insert(4, 1);
        registry.command_versions.insert(3, 2);
        assert_eq!(admitted(&registry), Ok(()));
        assert_eq!(
            admit(3, registry.command_version()),
            Err(Error::NotEveryMember)
        );
        assert_eq!(admit(1, Registry::default().command_version()), Ok(()));
    }
}
