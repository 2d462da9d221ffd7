//! What must hold at every moment, whatever fails. One property a file, with its source.
//!
//! The simulator tells every invariant every [`Fact`], as it happens. An invariant keeps what it
//! needs to remember and complains when the fact cannot be. None of them looks into a member.

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

/// Something a member did, or a position it reported.
#[derive(Debug)]
pub enum Fact<'a> {
    /// It started, with this from its disk.
    Recovered {
        /// Who.
        member: MemberId,
        /// Which life.
        boot: u64,
        /// What the disk held.
        restored: &'a Restored,
    },
    /// Its disk has lost some of the log's end, and no check of its own can see that. It comes back with
    /// this.
    Decayed {
        /// Who.
        member: MemberId,
        /// What the disk holds.
        restored: &'a Restored,
    },
    /// Its log is at rest: the loss of any of it would be seen.
    Rested {
        /// Who.
        member: MemberId,
    },
    /// Its leader, role or term changed.
    Stood {
        /// Who.
        member: MemberId,
        /// Its soft state now.
        soft_state: SoftState,
    },
    /// It handed this to its log.
    Appended {
        /// Who.
        member: MemberId,
        /// What.
        append: &'a Append,
    },
    /// Everything up to this append is durable.
    Synced {
        /// Who.
        member: MemberId,
        /// The append's number.
        number: u64,
    },
    /// It cut its log: entries up to here are gone.
    Truncated {
        /// Who.
        member: MemberId,
        /// The last entry that is gone.
        index: Index,
    },
    /// It sent a message of raft's.
    Sent {
        /// Who.
        member: MemberId,
        /// What.
        message: &'a RaftMessage,
    },
    /// It knows that this entry is committed.
    Committed {
        /// Who.
        member: MemberId,
        /// Which.
        committed: &'a Committed,
    },
    /// Its state machine has applied everything up to here.
    Applied {
        /// Who.
        member: MemberId,
        /// The index.
        index: Index,
        /// The store's revision there.
        revision: i64,
        /// The store's hash there, now and then.
        hash: Option<u32>,
        /// The v2 tree's digest there, as often.
        tree: Option<u64>,
    },
    /// It may answer a linearizable read once it has applied `index`.
    ReadReady {
        /// Who.
        member: MemberId,
        /// What it must have applied.
        index: Index,
        /// The last entry that anybody knew to be committed when the read was called.
        committed_at_call: Index,
    },
    /// It holds something in memory, or others hold it for it.
    Held {
        /// Who.
        member: MemberId,
        /// What.
        what: &'static str,
        /// How much.
        bytes: u64,
        /// The most that it may be.
        bytes_max: u64,
    },
    /// Where it stands after a turn.
    Status {
        /// Who.
        member: MemberId,
        /// Which life.
        boot: u64,
        /// Its consensus.
        status: NodeStatus,
        /// What its state machine has applied.
        applied: Index,
        /// What its engine holds.
        durable: Index,
    },
}

/// One property.
pub trait Invariant {
    /// Its name, for the report.
    fn name(&self) -> &'static str;

    /// Takes one fact; the ledger has taken it already.
    ///
    /// # Errors
    /// The property does not hold: what is wrong.
    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String>;
}

/// All of them, and the ledger they share.
pub struct Invariants {
    ledger: Ledger,
    all: Vec<Box<dyn Invariant + Send>>,
    /// How many facts were checked.
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

    /// What is known of all members together.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes a fact to the ledger and to every invariant.
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
