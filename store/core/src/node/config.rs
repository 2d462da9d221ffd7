//! The configuration of a node, and the check of log against engine at the start.

use keelson_proto::internal;

use crate::{Entry, HardState, Index, LastIncluded, MemberId, Roster, Term};

/// The configuration of a node. Times are in milliseconds of the caller's clock.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This member.
    pub member: MemberId,
    /// The incarnation of this member: the log counts its starts.
    pub incarnation: u64,
    /// One raft tick, and the time between a leader's heartbeats. etcd's default is 100.
    pub heartbeat_ms: u64,
    /// The minimum election timeout; the maximum is twice that. etcd's default is 1000.
    pub election_ms: u64,
    /// Hold a pre-vote before each election, so that a member with a bad link does not disrupt the
    /// leader.
    pub pre_vote: bool,
    /// The seed of the randomized election timeouts; the same seed gives the same run.
    pub seed: u64,
    /// How many entries stay in memory for slow followers, after the engine has them.
    pub catch_up_entries: u64,
    /// The same limit in bytes: the smaller of both holds.
    pub catch_up_bytes: usize,
    /// The limit on bytes of uncommitted proposals, both in the leader's log and forwarded by one
    /// follower. Proposals beyond it are refused.
    pub uncommitted_bytes_max: u64,
    /// The size of one append message in bytes of entries, beyond its first entry.
    pub append_bytes_max: u64,
    /// The limit on bytes of unacknowledged appends to one follower.
    pub in_flight_bytes_max: usize,
    /// The limit on bytes of entries in memory while the engine lacks committed ones: beyond it
    /// nothing is appended.
    pub log_bytes_max: usize,
    /// The limit on bytes of entries that wait for the log's disk: beyond it nothing is appended.
    pub unpersisted_bytes_max: usize,
    /// Refuse membership changes that could cost the quorum; etcd's `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// The number of learners beyond which the leader proposes no other; etcd's `--max-learners`.
    pub learners_max: usize,
}

impl NodeConfig {
    /// etcd's defaults.
    pub fn new(member: MemberId, incarnation: u64) -> NodeConfig {
        NodeConfig {
            member,
            incarnation,
            heartbeat_ms: 100,
            election_ms: 1000,
            pre_vote: true,
            seed: 0,
            catch_up_entries: 5_000,
            catch_up_bytes: 16 << 20,
            uncommitted_bytes_max: 64 << 20,
            append_bytes_max: 512 << 10,
            in_flight_bytes_max: 16 << 20,
            log_bytes_max: 128 << 20,
            unpersisted_bytes_max: 64 << 20,
            strict_reconfig_check: true,
            learners_max: 1,
        }
    }
}

/// The content of log and engine at the start of a member.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The log's hard state.
    pub hard_state: HardState,
    /// The entry before the log's first.
    pub log_start: LastIncluded,
    /// The log's entries, in order, without gaps.
    pub entries: Vec<Entry>,
    /// The applied index of the engine, with its term and membership.
    pub applied: internal::AppliedMark,
    /// The state with which the engine was created: that of a received snapshot, or of the
    /// founding. `None` if unknown.
    pub engine_began: Option<LastIncluded>,
    /// The members as of `applied`.
    pub roster: Roster,
}

/// Log and engine do not fit together.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NodeError {
    /// Entries between the two are missing.
    #[error(
        "the log begins after entry {log_start} but the storage engine holds only the entries up \
         to {applied}: part of the log is missing. Remove this member from the cluster, empty its \
         data directory and add it again"
    )]
    LogBeginsTooLate {
        /// The entry before the log's first.
        log_start: Index,
        /// The engine's applied index.
        applied: Index,
    },
    /// The log ends before the commit index of its hard state.
    #[error(
        "the log ends at entry {last} but entry {commit} was committed: the end of the log was \
         lost. This member must not vote with it. Remove it from the cluster, empty its data \
         directory and add it again"
    )]
    LogEndLost {
        /// The log's last entry.
        last: Index,
        /// The commit index of the hard state.
        commit: Index,
    },
    /// The engine has applied entries that the log lacks, and holds no snapshot that explains it.
    #[error(
        "the log ends at entry {last} and does not hold entry {applied}, which the storage engine \
         has applied: the end of the log was lost, or the log is an older copy. This member must \
         not vote with it. Remove it from the cluster, empty its data directory and add it again \
         (a cluster of one can continue from the engine with --force-new-cluster)"
    )]
    LogBehindEngine {
        /// The log's last entry.
        last: Index,
        /// The engine's last.
        applied: Index,
    },
    /// raft-rs refused the configuration.
    #[error("raft: {0}")]
    Raft(String),
}

impl Restored {
    /// Takes the log's entries after the engine's applied index. There are none if the engine holds
    /// a snapshot that the log does not record, or if entries in between are missing.
    pub fn take_rest(&mut self) -> Vec<Entry> {
        let applied = Index(self.applied.index);
        let fits = self.term_at(applied) == Some(Term(self.applied.term));
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| fits && applied < entry.index);
        entries
    }

    /// Reconciles log and engine. The engine takes precedence: it holds committed state only.
    /// Returns the state to start with and, if the log must restart, its new first position.
    pub(super) fn reconcile(mut self) -> Result<(Restored, Option<LastIncluded>), NodeError> {
        let applied = LastIncluded {
            index: Index(self.applied.index),
            term: Term(self.applied.term),
        };
        if applied.index < self.log_start.index {
            return Err(NodeError::LogBeginsTooLate {
                log_start: self.log_start.index,
                applied: applied.index,
            });
        }
        let mut mark = None;
        if self.term_at(applied.index) != Some(applied.term) {
            // Entries are applied only after they are in the log. So either a snapshot was received
            // and the process ended before the log recorded it, or the log has lost its end.
            if self.engine_began.is_some_and(|began| began != applied) {
                return Err(NodeError::LogBehindEngine {
                    last: Index(self.log_start.index.0 + self.entries.len() as u64),
                    applied: applied.index,
                });
            }
            self.entries.clear();
            self.log_start = applied;
            mark = Some(applied);
        }
        let last = Index(self.log_start.index.0 + self.entries.len() as u64);
        if last < self.hard_state.commit {
            return Err(NodeError::LogEndLost {
                last,
                commit: self.hard_state.commit,
            });
        }
        self.hard_state.commit = self.hard_state.commit.max(applied.index);
        if self.hard_state.term < applied.term {
            self.hard_state.term = applied.term;
            self.hard_state.vote = MemberId::NONE;
        }
        Ok((self, mark))
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.log_start.index {
            return Some(self.log_start.term);
        }
        let at = index.0.checked_sub(self.log_start.index.0 + 1)?;
        self.entries
            .get(usize::try_from(at).ok()?)
            .map(|entry| entry.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryKind;

    /// A log of term 4 that begins at an index, and an engine at entry 10.
    fn restored(log_start: u64, applied_term: u64) -> Restored {
        let entry = |index| Entry {
            index: Index(index),
            term: Term(4),
            kind: EntryKind::Command,
            data: Default::default(),
            context: Default::default(),
        };
        Restored {
            log_start: LastIncluded {
                index: Index(log_start),
                term: Term(4),
            },
            entries: (log_start + 1..=log_start + 8).map(entry).collect(),
            applied: internal::AppliedMark {
                index: 10,
                term: applied_term,
                conf_state: None,
                hash: None,
            },
            ..Restored::default()
        }
    }

    /// `--force-new-cluster` applied entries that a snapshot had replaced, and ended at a gap.
    #[test]
    fn only_entries_that_follow_what_the_engine_holds_are_its_rest() {
        let rest = |log_start, applied_term| {
            let rest = restored(log_start, applied_term).take_rest();
            rest.into_iter()
                .map(|entry| entry.index.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(rest(5, 4), [11, 12, 13]);
        assert_eq!(rest(10, 4), (11..=18).collect::<Vec<_>>());
        assert_eq!(rest(5, 5), [0; 0]);
        assert_eq!(rest(11, 4), [0; 0]);
        assert_eq!(rest(0, 4), [0; 0]);
    }
}
