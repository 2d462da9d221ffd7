//! The agreed tree: the naive model's state after every entry of the log, and comparisons of the
//! members' trees with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keelson_core::state::{Applied, Error, ReadView, Response};
use keelson_core::tree::{Action, Event, TreeError};
use keelson_core::{Committed, EntryKind, Index, MemberId, ProposalId, Term, proposal};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{Command, TreeExpire, member_change};
use prost::Message;

use crate::check::tree::replay::Agreed;
use crate::model::Tree;

/// A leader's tenure, from the time at which it had applied everything of earlier terms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenure {
    /// The time of its beginning.
    pub(super) began_ms: u64,
    /// The tree's index at that time.
    pub(super) index: u64,
}

/// The effect of an entry on the tree.
struct EntryEffect {
    /// The term of the entry.
    term: Term,
    /// The tree's index after it.
    index: u64,
    /// The answer to its client, if it is a request.
    answer: Option<Result<Arc<Event>, TreeError>>,
}

/// The effects of all entries.
pub(in crate::sim) struct Log {
    pub(in crate::sim) model: Tree,
    /// By raft index, from 1 on.
    lines: Vec<EntryEffect>,
    members: BTreeSet<u64>,
    /// The operation of each request.
    asked: BTreeMap<ProposalId, usize>,
    /// The model's answers to the requests in the log.
    pub(in crate::sim) agreed: Agreed,
    /// The time at which an expiry was proposed.
    proposed: BTreeMap<ProposalId, u64>,
    tenures: BTreeMap<Term, Tenure>,
    /// The grace of a new leader.
    grace_ms: u64,
    /// The number of expired nodes.
    pub(in crate::sim) expiries: u64,
}

impl Log {
    /// The log after a genesis with this many members.
    pub(in crate::sim) fn new(members: u64) -> Log {
        let mut model = Tree::new();
        (0..members).for_each(|_| model.touch());
        let genesis = EntryEffect {
            term: Term(0),
            index: model.index(),
            answer: None,
        };
        Log {
            model,
            lines: vec![genesis],
            members: (1..=members).collect(),
            asked: BTreeMap::new(),
            agreed: Agreed::new(),
            proposed: BTreeMap::new(),
            tenures: BTreeMap::new(),
            grace_ms: 0,
            expiries: 0,
        }
    }

    pub(super) fn asks(&mut self, id: ProposalId, operation: usize) {
        self.asked.insert(id, operation);
    }

    pub(super) fn proposes(&mut self, id: ProposalId, now_ms: u64) {
        self.proposed.insert(id, now_ms);
    }

    pub(super) fn begins(&mut self, term: Term, tenure: Tenure, grace_ms: u64) {
        self.grace_ms = grace_ms;
        self.tenures.entry(term).or_insert(tenure);
    }

    /// An entry is committed for the first time.
    pub(in crate::sim) fn commit(&mut self, committed: &Committed) -> Result<(), String> {
        let entry = &committed.entry;
        let next = self.lines.len() as u64 + 1;
        assert_eq!(entry.index.0, next, "entries are committed in order");
        let mut answer = None;
        if let Some(conf) = committed.conf.as_ref().filter(|conf| conf.accepted) {
            let op = conf.change.as_ref().and_then(|change| change.op.as_ref());
            self.change_members(op);
        } else if let (EntryKind::Command, Some((id, command))) =
            (entry.kind, proposal::decode(&entry.data))
        {
            match Command::decode(command).ok().and_then(|command| command.op) {
                Some(Op::Tree(request)) => {
                    let done = self.model.apply(&request);
                    if let Some(operation) = self.asked.get(&id) {
                        self.agreed.insert(*operation, done.clone());
                    }
                    answer = Some(done);
                }
                Some(Op::TreeExpire(request)) => self.expire(id, entry.term, &request)?,
                Some(Op::MemberAttributes(attributes))
                    if self.members.contains(&attributes.member_id) =>
                {
                    self.model.touch();
                }
                _ => {}
            }
        }
        let index = self.model.index();
        self.lines.push(EntryEffect {
            term: entry.term,
            index,
            answer,
        });
        Ok(())
    }

    /// etcd keeps its members in the tree; the removed ones also in a directory of their own.
    fn change_members(&mut self, op: Option<&member_change::Op>) {
        let changes = match op {
            None => 0,
            Some(member_change::Op::Remove(id)) => {
                self.members.remove(id);
                2
            }
            Some(member_change::Op::Add(member)) => {
                self.members.insert(member.id);
                1
            }
            Some(_) => 1,
        };
        (0..changes).for_each(|_| self.model.touch());
    }

    fn expire(&mut self, id: ProposalId, term: Term, expire: &TreeExpire) -> Result<(), String> {
        let before = self.model.index();
        if [0, term.0].contains(&expire.term) {
            self.model.expire(expire);
        }
        self.expiries += self.model.index() - before;
        let proposed_ms = self.proposed.get(&id).copied().unwrap_or_default();
        for index in before + 1..=self.model.index() {
            let event = self.model.event(index).ok_or("an expiry is an event")?;
            let key = &event.node.key;
            let was = self.model.was(key, index - 1).ok_or("it was there")?;
            if event.action != Action::Expire || expire.time_ns < was.expires_ns {
                return Err(format!("v2 expiry: before its time: {event:?}, {expire:?}"));
            }
            // The grace is that of the leader of the entry's term, not of the member that proposed.
            let tenure = self.tenures.get(&term);
            let set_before = |tenure: &Tenure| {
                was.ttl_set <= tenure.index || self.term_of_change(was.ttl_set) < term
            };
            let spared = tenure.is_none_or(|tenure| {
                proposed_ms < tenure.began_ms + self.grace_ms && set_before(tenure)
            });
            if spared {
                return Err(format!(
                    "v2 expiry: {key:?} ends within the grace: set at {}, {tenure:?}, proposed at \
                     {proposed_ms} ms in term {term:?}: {expire:?}",
                    was.ttl_set
                ));
            }
        }
        Ok(())
    }

    /// The term of the entry that brought the tree to this index.
    fn term_of_change(&self, index: u64) -> Term {
        let at = self.lines.partition_point(|line| line.index < index);
        self.lines.get(at).map_or(Term(u64::MAX), |line| line.term)
    }

    /// The tree's index after an entry.
    pub(super) fn index_after(&self, index: Index) -> Option<u64> {
        let at = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.lines.get(at).map(|line| line.index)
    }

    /// A member has applied an entry.
    pub(in crate::sim) fn compare(
        &self,
        id: MemberId,
        index: Index,
        applied: &Applied,
        view: &ReadView,
    ) -> Result<(), String> {
        let at = usize::try_from(index.0 - 1).expect("a log that fits in memory");
        let line = self.lines.get(at).ok_or("applied and not committed")?;
        let before = self.index_after(Index(index.0 - 1)).unwrap_or_default();
        let compared = match view.tree_index() == line.index {
            true => compare_answer(line, applied),
            false => Err(format!("index {}, not {}", view.tree_index(), line.index)),
        };
        let compared = compared.and_then(|()| self.compare_events(before, line.index, applied));
        compared.map_err(|what| format!("v2 tree: {id} after entry {index}: {what}"))
    }

    /// Compares the events for live watchers, with all nodes that were deleted with a directory.
    fn compare_events(&self, before: u64, after: u64, applied: &Applied) -> Result<(), String> {
        let expected = (before + 1..=after).filter_map(|index| self.model.event(index));
        let told = applied.events.iter();
        let whole = |(told, expected): (&Arc<Event>, &Arc<Event>)| {
            told == expected && told.removed == expected.removed
        };
        match told.len() == expected.clone().count() && told.zip(expected).all(whole) {
            true => Ok(()),
            false => Err(format!("tells watchers {:?}", applied.events)),
        }
    }

    /// Compares the whole tree of a member that has applied everything up to an entry: its nodes,
    /// their expiry times, and its history.
    pub(in crate::sim) fn compare_all(
        &self,
        id: MemberId,
        applied: Index,
        view: &ReadView,
        now_ns: i64,
    ) -> Result<(), String> {
        let explain = |what: String| format!("v2 tree: {id} at entry {applied}: {what}");
        let index = self
            .index_after(applied)
            .ok_or("applied and not committed")?;
        if view.tree_index() != index {
            let found = view.tree_index();
            return Err(explain(format!("index {found}, not {index}")));
        }
        for (path, _) in self.model.model().all(index) {
            let expected = self.model.get(path, false, index, now_ns);
            let found = view.tree_get(path, false, now_ns);
            if found != expected.clone().map(|node| (node, index)) {
                return Err(explain(format!("holds\n  {found:?}\nnot\n  {expected:?}")));
            }
        }
        for spared in [0, index / 2, index.saturating_sub(10), index] {
            let expected = self.model.model().next_expiry(spared, index);
            let found = view.tree_next_expiry(spared);
            if found != expected {
                let text = format!("next expiry {found:?}, not {expected:?} (spared {spared})");
                return Err(explain(text));
            }
        }
        self.compare_history(index, view).map_err(explain)
    }

    /// Compares every event of a member's history: by index, without a gap, and their number.
    fn compare_history(&self, index: u64, view: &ReadView) -> Result<(), String> {
        let oldest = (index + 1).saturating_sub(crate::model::HISTORY).max(1);
        let mut since = oldest.saturating_sub(1).max(1);
        loop {
            let expected = self.model.scan(b"/", true, since, index);
            let found = view.tree_scan(b"/", true, since);
            let same = match (&found, &expected) {
                (Ok(found), Ok(expected)) => found.as_ref() == *expected,
                (Err(found), Err(expected)) => found == expected,
                _ => false,
            };
            if !same {
                return Err(format!(
                    "history from {since}:\n  {found:?}\nnot\n  {expected:?}"
                ));
            }
            since = match found {
                Ok(Some(event)) => event.index + 1,
                Ok(None) => return Ok(()),
                Err(_) => oldest,
            };
        }
    }
}

fn compare_answer(line: &EntryEffect, applied: &Applied) -> Result<(), String> {
    let same = match (&line.answer, &applied.response) {
        (Some(Ok(expected)), Ok(Response::Tree(event))) => expected == event,
        (Some(Err(expected)), Err(Error::Tree(error))) => expected == error,
        (None, Ok(Response::Tree(_)) | Err(Error::Tree(_))) => false,
        (expected, _) => expected.is_none(),
    };
    match (same, &applied.response, &line.answer) {
        (true, _, _) => Ok(()),
        (_, found, expected) => Err(format!("answers\n  {found:?}\nnot\n  {expected:?}")),
    }
}
