//! The words everything else is written in: ids, log positions, entries.

use std::fmt;

use bytes::Bytes;
use keelson_proto::internal::AppliedMark;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty), $display:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $display, self.0)
            }
        }
    };
}

newtype!(
    /// A member of the cluster. Printed in hexadecimal, as etcd prints it; 0 is nobody.
    MemberId(u64), "{:x}"
);
newtype!(
    /// The cluster. Printed in hexadecimal, as etcd prints it.
    ClusterId(u64), "{:x}"
);
newtype!(
    /// Raft's logical time.
    Term(u64), "{}"
);
newtype!(
    /// A position in the replicated log; the first entry is at 1.
    Index(u64), "{}"
);
newtype!(
    /// etcd's store revision: 1 when empty, +1 for every transaction that writes.
    Revision(i64), "{}"
);

impl MemberId {
    /// Nobody: no leader known, no vote given.
    pub const NONE: MemberId = MemberId(0);
}

/// Milliseconds since some moment that the caller chose; the core has no clock of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Names one proposal for ever: the counter restarts with the boot, and the boot number, which the
/// log keeps, never comes twice. A reply to an earlier life of this member cannot match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId {
    /// The member whose client asked.
    pub member: MemberId,
    /// Which life of that member.
    pub boot: u64,
    /// Which request of that life.
    pub counter: u64,
}

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A `Command` behind its proposal id, or nothing at all (a new leader's first entry).
    Command,
    /// A `MemberChange` behind its proposal id, in raft's own wrapping.
    Membership,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub index: Index,
    /// The term of the leader that wrote it.
    pub term: Term,
    /// What it carries.
    pub kind: EntryKind,
    /// The payload, shared with the receive buffer where possible.
    pub data: Bytes,
    /// Second payload, used by `Membership` entries only.
    pub context: Bytes,
}

impl Entry {
    /// What the entry weighs in memory limits, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.data.len() + self.context.len() + 32
    }
}

/// What a member must not forget between lives, beside the entries. Raft, figure 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this member's vote in that term.
    pub vote: MemberId,
    /// The highest index known to be committed.
    pub commit: Index,
}

/// The last entry that a state includes, and with which its log begins: `lastIncludedIndex` and
/// `lastIncludedTerm` of Raft, figure 13. Index 0 is the empty state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastIncluded {
    /// The entry's index.
    pub index: Index,
    /// The entry's term.
    pub term: Term,
}

impl From<&AppliedMark> for LastIncluded {
    fn from(mark: &AppliedMark) -> LastIncluded {
        LastIncluded {
            index: Index(mark.index),
            term: Term(mark.term),
        }
    }
}
