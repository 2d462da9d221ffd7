//! The record of an omniscient observer: every member's log, in memory and on disk, and the
//! committed entries.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use keelson_core::node::{Append, Restored};
use keelson_core::{Committed, Entry, HardState, MemberId};
use keelson_proto::internal::{AppliedMark, ConfState};

use super::Fact;

/// An entry without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its term.
    pub term: u64,
    /// A hash of its payload.
    pub hash: u64,
}

impl Line {
    /// The line for an entry.
    pub fn of(entry: &Entry) -> Line {
        // The hasher has fixed keys: the same hash in every run.
        let mut hasher = DefaultHasher::new();
        (entry.kind as u8).hash(&mut hasher);
        entry.data.hash(&mut hasher);
        entry.context.hash(&mut hasher);
        Line {
            term: entry.term.0,
            hash: hasher.finish(),
        }
    }
}

/// One log: the lines after `base`, without gaps.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The index before the first line.
    pub base: u64,
    /// The term there.
    pub base_term: u64,
    lines: VecDeque<Line>,
}

impl Lines {
    /// The last index.
    pub fn last(&self) -> u64 {
        self.base + self.lines.len() as u64
    }

    /// The line at an index.
    pub fn at(&self, index: u64) -> Option<Line> {
        let at = index.checked_sub(self.base + 1)?;
        self.lines.get(usize::try_from(at).ok()?).copied()
    }

    /// The term at an index, also at the base.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        match index == self.base {
            true => Some(self.base_term),
            false => self.at(index).map(|line| line.term),
        }
    }

    /// The contents of a restored log.
    pub fn of_log(restored: &Restored) -> Lines {
        let start = restored.log_start;
        let mut lines = Lines::default();
        lines.restart(start.index.0, start.term.0);
        for entry in &restored.entries {
            lines.write(entry.index.0, Line::of(entry));
        }
        lines
    }

    /// Whether the other one is a prefix of this one, wherever both have lines.
    pub fn begins_with(&self, other: &Lines) -> bool {
        let from = self.base.max(other.base) + 1;
        other.last() <= self.last() && (from..=other.last()).all(|at| self.at(at) == other.at(at))
    }

    /// Whether the two end at the same index and agree wherever both have lines.
    fn agrees_with(&self, other: &Lines) -> bool {
        let from = self.base.max(other.base) + 1;
        self.last() == other.last() && (from..=self.last()).all(|at| self.at(at) == other.at(at))
    }

    /// Begins anew behind a snapshot.
    fn restart(&mut self, base: u64, term: u64) {
        self.lines.clear();
        (self.base, self.base_term) = (base, term);
    }

    fn write(&mut self, index: u64, line: Line) {
        let keep = index.saturating_sub(self.base + 1);
        self.lines
            .truncate(usize::try_from(keep).expect("a log that fits in memory"));
        self.lines.push_back(line);
    }

    fn cut_front(&mut self, index: u64) {
        while self.base < index {
            let Some(line) = self.lines.pop_front() else {
                return;
            };
            (self.base, self.base_term) = (self.base + 1, line.term);
        }
    }
}

/// One member's log.
#[derive(Debug, Default)]
pub struct Logs {
    /// The log in the member's memory.
    pub memory: Lines,
    /// The part that survives a crash at least.
    pub durable: Lines,
    /// The hard state that survives a crash at least.
    pub hard_state: HardState,
    /// What was durable before the last sync, or when the log was at rest: its loss would be
    /// detected, unless the sector in which the log ends is lost.
    pub settled: u64,
    /// What was durable when the log was last at rest: its loss would be detected.
    pub rested: u64,
    /// Appends that are being written.
    pending: VecDeque<Pending>,
}

impl Logs {
    /// Whether a crash can leave these contents: everything durable, and then a part of the appends
    /// that are being written.
    pub fn could_become(&self, found: &Lines) -> bool {
        let mut log = self.durable.clone();
        if log.agrees_with(found) {
            return true;
        }
        for pending in &self.pending {
            if let Some((base, term)) = pending.restart {
                log.restart(base, term);
            }
            if log.agrees_with(found) {
                return true;
            }
            for (index, line) in &pending.lines {
                log.write(*index, *line);
                if log.agrees_with(found) {
                    return true;
                }
            }
        }
        false
    }

    /// The hard states that are being written.
    pub fn pending_hard_states(&self) -> impl Iterator<Item = HardState> {
        self.pending.iter().filter_map(|pending| pending.hard_state)
    }
}

#[derive(Debug)]
struct Pending {
    number: u64,
    restart: Option<(u64, u64)>,
    lines: Vec<(u64, Line)>,
    hard_state: Option<HardState>,
}

/// A committed entry, which never changes.
#[derive(Clone, Debug)]
pub struct Final {
    /// The entry.
    pub line: Line,
    /// The first member on which it was committed.
    pub first: MemberId,
    /// The term in which it was committed: an entry may be older than the leader that commits it.
    pub committed_in: u64,
}

/// The record of all members.
#[derive(Debug)]
pub struct Ledger {
    logs: BTreeMap<MemberId, Logs>,
    /// Every member's last reported term.
    terms: BTreeMap<MemberId, u64>,
    genesis: u64,
    committed: Vec<Final>,
    /// The memberships, each from the index of its entry.
    memberships: Vec<(u64, ConfState)>,
    /// The index of the entry that the last fact committed for the first time.
    pub newly_committed: Option<u64>,
    /// After a recovery: the member's log before it.
    previous: Option<Logs>,
}

impl Ledger {
    /// An empty record.
    pub fn new(genesis: &AppliedMark) -> Ledger {
        Ledger {
            logs: BTreeMap::new(),
            terms: BTreeMap::new(),
            genesis: genesis.index,
            committed: Vec::new(),
            memberships: vec![(
                genesis.index,
                genesis.conf_state.clone().unwrap_or_default(),
            )],
            newly_committed: None,
            previous: None,
        }
    }

    /// When the last fact is a recovery: the member's log before it.
    pub fn previous(&self) -> Option<&Logs> {
        self.previous.as_ref()
    }

    /// A member's log, if it ever had one.
    pub fn logs(&self, member: MemberId) -> Option<&Logs> {
        self.logs.get(&member)
    }

    /// The last index that is committed on any member.
    pub fn last_committed(&self) -> u64 {
        self.genesis + self.committed.len() as u64
    }

    /// A committed entry.
    pub fn committed(&self, index: u64) -> Option<&Final> {
        let at = index.checked_sub(self.genesis + 1)?;
        self.committed.get(usize::try_from(at).ok()?)
    }

    /// The last entry that was committed in a term before this one.
    pub fn last_committed_before(&self, term: u64) -> u64 {
        let before = self
            .committed
            .partition_point(|entry| entry.committed_in < term);
        self.genesis + before as u64
    }

    /// The present membership, and the index of its entry.
    pub fn membership(&self) -> (u64, &ConfState) {
        let (index, conf) = self.memberships.last().expect("the genesis has one");
        (*index, conf)
    }

    /// The present membership and the one before it.
    pub fn memberships(&self) -> impl Iterator<Item = &ConfState> {
        self.memberships.iter().rev().take(2).map(|(_, conf)| conf)
    }

    /// The members that have that entry on disk.
    pub fn holders(&self, index: u64, line: Line) -> Vec<MemberId> {
        let holds = |logs: &Logs| match logs.durable.at(index) {
            Some(held) => held == line,
            // An entry below the base is in the engine, which holds committed state only.
            None => index <= logs.durable.base,
        };
        let holders = self.logs.iter().filter(|(_, logs)| holds(logs));
        holders.map(|(member, _)| *member).collect()
    }

    /// Records a fact.
    pub(super) fn note(&mut self, fact: &Fact<'_>) {
        self.newly_committed = None;
        self.previous = None;
        match fact {
            Fact::Recovered {
                member, restored, ..
            } => self.recovered(*member, restored),
            Fact::Appended { member, append } => self.appended(*member, append),
            Fact::Synced { member, number } => self.synced(*member, *number),
            Fact::Decayed { member, restored } => {
                self.recovered(*member, restored);
                self.previous = None;
            }
            Fact::Rested { member } => {
                let logs = self.logs.entry(*member).or_default();
                logs.settled = logs.durable.last();
                logs.rested = logs.settled;
            }
            Fact::Truncated { member, index } => {
                let logs = self.logs.entry(*member).or_default();
                logs.settled = logs.durable.last();
                logs.memory.cut_front(index.0);
                logs.durable.cut_front(index.0);
            }
            Fact::Stood { member, soft_state } => {
                self.terms.insert(*member, soft_state.term.0);
            }
            Fact::Committed { member, committed } => self.commit(*member, committed),
            _ => {}
        }
    }

    fn recovered(&mut self, member: MemberId, restored: &Restored) {
        self.previous = self.logs.remove(&member);
        let rested = self.previous.as_ref().map_or(0, |logs| logs.rested);
        let logs = self.logs.entry(member).or_default();
        logs.memory = Lines::of_log(restored);
        logs.durable = logs.memory.clone();
        logs.settled = logs.durable.last();
        logs.rested = rested.min(logs.settled);
        logs.hard_state = restored.hard_state;
    }

    fn appended(&mut self, member: MemberId, append: &Append) {
        let logs = self.logs.entry(member).or_default();
        let restart = append
            .snapshot
            .as_ref()
            .map(|(mark, _)| (mark.index.0, mark.term.0));
        if let Some((base, term)) = restart {
            logs.memory.restart(base, term);
        }
        let line = |entry: &Entry| (entry.index.0, Line::of(entry));
        let lines: Vec<_> = append.entries.iter().map(line).collect();
        for (index, line) in &lines {
            logs.memory.write(*index, *line);
        }
        logs.pending.push_back(Pending {
            number: append.number,
            restart,
            lines,
            hard_state: append.hard_state,
        });
    }

    fn synced(&mut self, member: MemberId, number: u64) {
        let logs = self.logs.entry(member).or_default();
        logs.settled = logs.durable.last();
        while logs
            .pending
            .front()
            .is_some_and(|pending| pending.number <= number)
        {
            let Some(done) = logs.pending.pop_front() else {
                break;
            };
            if let Some((base, term)) = done.restart {
                logs.durable.restart(base, term);
            }
            for (index, line) in done.lines {
                logs.settled = logs.settled.min(index - 1);
                logs.rested = logs.rested.min(index - 1);
                logs.durable.write(index, line);
            }
            logs.hard_state = done.hard_state.unwrap_or(logs.hard_state);
        }
    }

    fn commit(&mut self, member: MemberId, committed: &Committed) {
        let index = committed.entry.index.0;
        if index != self.last_committed() + 1 {
            return;
        }
        self.newly_committed = Some(index);
        self.committed.push(Final {
            line: Line::of(&committed.entry),
            first: member,
            committed_in: self.terms.get(&member).copied().unwrap_or_default(),
        });
        if let Some(conf) = &committed.conf {
            self.memberships.push((index, conf.conf_state.clone()));
        }
    }
}
