//! The properties that must hold at every moment, in spite of all faults. One property in each
//! file, with its source.
//!
//! The simulator passes every [`Fact`] to every invariant, as it happens. An invariant keeps its
//! own state and returns an error when the fact violates its property. None of them reads a
//! member's state.

mod applied_once;
mod commit_is_durable;
mod committed_is_final;
mod durable_before_sent;
mod election_safety;
mod leader_completeness;
mod ledger;
mod log_matching;
mod memory_is_bounded;
mod monotone;
mod order_of_marks;
mod read_index;
mod recovery;
mod state_machine_safety;
mod vote_once;

use keelson_core::node::{Append, NodeStatus, Restored, SoftState};
use keelson_core::{Committed, Index, MemberId};
use keelson_proto::peer::RaftMessage;

pub use ledger::{Ledger, Line, Lines};

/// An action of a member, or a position that it reported.
#[derive(Debug)]
pub enum Fact<'a> {
    /// It started, with this from its disk.
    Recovered {
        /// The member.
        member: MemberId,
        /// Its incarnation.
        boot: u64,
        /// The disk's contents.
        restored: &'a Restored,
    },
    /// Its disk has lost a part of the log's end, and no check of the member itself can detect
    /// that. It restarts with these contents.
    Decayed {
        /// The member.
        member: MemberId,
        /// The disk's contents.
        restored: &'a Restored,
    },
    /// Its log is at rest: the loss of any part of it would be detected.
    Rested {
        /// The member.
        member: MemberId,
    },
    /// Its leader, role or term changed.
    Stood {
        /// The member.
        member: MemberId,
        /// Its soft state now.
        soft_state: SoftState,
    },
    /// It passed this to its log.
    Appended {
        /// The member.
        member: MemberId,
        /// The append.
        append: &'a Append,
    },
    /// Everything up to this append is durable.
    Synced {
        /// The member.
        member: MemberId,
        /// The append's number.
        number: u64,
    },
    /// It truncated its log: entries up to this index are gone.
    Truncated {
        /// The member.
        member: MemberId,
        /// The last entry that is gone.
        index: Index,
    },
    /// It sent a Raft message.
    Sent {
        /// The member.
        member: MemberId,
        /// The message.
        message: &'a RaftMessage,
    },
    /// It found this entry to be committed.
    Committed {
        /// The member.
        member: MemberId,
        /// The entry.
        committed: &'a Committed,
    },
    /// Its state machine has applied everything up to this index.
    Applied {
        /// The member.
        member: MemberId,
        /// The index.
        index: Index,
        /// The store's revision there.
        revision: i64,
        /// The store's hash there, at some of the entries.
        hash: Option<u32>,
        /// The v2 tree's digest there, at the same entries.
        tree: Option<u64>,
        /// The digest of users, roles and permissions there, in a run with auth.
        auth: Option<u64>,
    },
    /// It may answer a linearizable read once it has applied `index`.
    ReadReady {
        /// The member.
        member: MemberId,
        /// The index that it must have applied.
        index: Index,
        /// The last entry that was committed on any member when the read was called.
        committed_at_call: Index,
    },
    /// It holds data in memory, or other members hold it for it.
    Held {
        /// The member.
        member: MemberId,
        /// The kind of data.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// Its bound.
        bytes_max: u64,
    },
    /// Its status after a turn.
    Status {
        /// The member.
        member: MemberId,
        /// Its incarnation.
        boot: u64,
        /// The status of its consensus.
        status: NodeStatus,
        /// The index that its state machine has applied.
        applied: Index,
        /// The index that its engine holds.
        durable: Index,
    },
}

/// One property.
pub trait Invariant {
    /// Its name, for the report.
    fn name(&self) -> &'static str;

    /// Checks one fact, which is already in the ledger.
    ///
    /// # Errors
    /// The property does not hold; the text states the violation.
    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String>;
}

/// All invariants, and the ledger that they share.
pub struct Invariants {
    ledger: Ledger,
    all: Vec<Box<dyn Invariant + Send>>,
    /// The number of checked facts.
    pub facts: u64,
}

impl Invariants {
    /// All invariants, for a cluster whose members all hold the state at `genesis`.
    pub fn new(genesis: &keelson_proto::internal::AppliedMark) -> Invariants {
        Invariants {
            ledger: Ledger::new(genesis),
            all: vec![
                Box::new(election_safety::ElectionSafety::default()),
                Box::new(vote_once::VoteOnce::default()),
                Box::new(log_matching::LogMatching::default()),
                Box::new(leader_completeness::LeaderCompleteness),
                Box::new(committed_is_final::CommittedIsFinal),
                Box::new(commit_is_durable::CommitIsDurable),
                Box::new(durable_before_sent::DurableBeforeSent),
                Box::new(state_machine_safety::StateMachineSafety::default()),
                Box::new(applied_once::AppliedOnce::default()),
                Box::new(monotone::Monotone::default()),
                Box::new(memory_is_bounded::MemoryIsBounded),
                Box::new(order_of_marks::OrderOfMarks),
                Box::new(read_index::ReadIndex),
                Box::new(recovery::Recovery),
            ],
            facts: 0,
        }
    }

    /// The record of all members.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Passes a fact to the ledger and to every invariant.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        self.facts += 1;
        self.ledger.note(fact);
        for invariant in &mut self.all {
            let checked = invariant.observe(fact, &self.ledger);
            checked.map_err(|problem| format!("{}: {problem}", invariant.name()))?;
        }
        Ok(())
    }
}
