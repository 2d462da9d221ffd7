//! The basic types of the crate: ids, log positions, entries.

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
    /// A member of the cluster. Printed in hexadecimal, as etcd prints it; 0 is no member.
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
    /// No member: no known leader, or no vote.
    pub const NONE: MemberId = MemberId(0);
}

/// Milliseconds since an origin that the caller chooses; the core has no clock of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// The id of a proposal, unique for ever: the counter restarts with each incarnation, and the log
/// never issues an incarnation twice. A reply to an earlier incarnation cannot match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId {
    /// The member that received the request from its client.
    pub member: MemberId,
    /// The incarnation of that member; `boot` on the wire and in the log.
    pub incarnation: u64,
    /// The number of the request within the incarnation.
    pub counter: u64,
}

/// The kind of an entry's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A `Command` behind its proposal id, or empty: the first entry of a new leader.
    Command,
    /// A `MemberChange` behind its proposal id, inside raft-rs's `ConfChangeV2`.
    Membership,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position in the log.
    pub index: Index,
    /// The term of the leader that appended it.
    pub term: Term,
    /// How `data` and `context` are read.
    pub kind: EntryKind,
    /// The payload, shared with the receive buffer where possible.
    pub data: Bytes,
    /// Second payload, used by `Membership` entries only.
    pub context: Bytes,
}

impl Entry {
    /// The entry's size in bytes, as the limits on memory count it.
    pub fn size_bytes(&self) -> usize {
        self.data.len() + self.context.len() + 32
    }
}

/// The persistent state of Raft, figure 2, beside the entries; `commit` is etcd's addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// The candidate that got this member's vote in that term.
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

/// SplitMix64's finishing step: spreads every bit of the input over the output.
pub(crate) fn mix(input: u64) -> u64 {
    let mut mixed = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
