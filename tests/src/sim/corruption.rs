//! Members that apply an entry wrongly, and what the product must do then: the comparison of hashes
//! shows it, the member serves no client, and it gets the leader's state.
//!
//! What such a member answers before its divergence is found is wrong, undetectably: its clients
//! get no answers here until then. Afterwards every answer but an error is a failure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keelson_core::member::{AuditNote, AuditPolicy};
use keelson_core::state::{Applied, Error, HashOutcome, HashReport, ReadView};
use keelson_core::{Committed, EntryKind, Index, MemberId, ProposalId, proposal};
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::internal::{Command, command::Op, hash_check::Step};
use keelson_proto::peer::PeerMessage;
use keelson_proto::peer::peer_message::Message as PeerMessageKind;
use prost::Message;

use super::dice::Dice;
use super::event::Waiter;
use super::lease::Leases;
use super::mutant::Mutant;
use super::swarm::Swarm;
use super::watch::StreamPlan;
use super::world::World;
use crate::history::Outcome;

/// When members compare their hashes in such a run.
pub(super) const AUDITS: AuditPolicy = AuditPolicy {
    entries: 64,
    quiet_ms: 1_000,
};
/// In a run without other faults a divergence is found within this number of entries: those until
/// the comparison, and those that are proposed before the verdict.
const ENTRIES_MAX: u64 = 64 + 128;
/// In calm, all members are found and healed within this time.
const HEAL_MS: u64 = 30_000;

/// The members whose states are wrong.
#[derive(Debug, Default)]
pub(super) struct Corruption {
    /// Whether the run has no other faults. Those of before the calm delay the verdict in it too.
    is_alone: bool,
    /// The member that applies one of the next entries wrongly.
    pending: Option<MemberId>,
    /// Each with the entry that it applied wrongly.
    wrong: BTreeMap<MemberId, Index>,
    /// Members whose state is a healed one, which may be ahead of their log.
    ahead: BTreeSet<MemberId>,
    /// For a mutant: the last report of each member.
    reports: BTreeMap<MemberId, HashReport>,
}

impl Corruption {
    /// No member is wrong yet.
    pub(super) fn new(swarm: &Swarm) -> Corruption {
        Corruption {
            is_alone: swarm.is_quiet(),
            ..Corruption::default()
        }
    }

    /// Whether that member's state is wrong.
    pub(super) fn is_wrong(&self, id: MemberId) -> bool {
        self.wrong.contains_key(&id)
    }
}

impl Swarm {
    /// Decides whether members apply entries wrongly, from dice of its own.
    pub(super) fn draw_corruption(&mut self, dice: &mut Dice) {
        let fits = 3 <= self.members && !self.membership && self.bounds.is_none();
        if fits && !self.troubles.damage && dice.chance(0.25) {
            self.corrupt();
            // Only then the time until the verdict has a bound.
            if dice.chance(0.5) {
                (self.crashes, self.partitions, self.pauses) = (false, false, false);
                (self.transfers, self.false_notices) = (false, false);
                (self.drop, self.straggle, self.slow_sync) = (0.0, 0.0, 0.0);
                (self.troubles.stalls, self.troubles.still) = (false, 0.0);
            }
        }
    }

    /// Makes the run one with such members. Its clients are those that one history checks.
    pub(super) fn corrupt(&mut self) {
        self.corruption = true;
        (self.tree_clients, self.watchers, self.users) = (0, 0, 0);
        (self.leases, self.streams) = (Leases::default(), StreamPlan::default());
        // A wrong state must not reach others as a snapshot before it is known.
        (self.catch_up_entries, self.catch_up_bytes) = (5_000, 1 << 20);
        self.churn = false;
    }

    /// Makes a run in which a mutant of the comparison matters.
    pub(super) fn aim_at_corruption(&mut self) {
        self.corrupt();
        (self.membership, self.crashes, self.partitions) = (false, false, false);
        (self.pauses, self.think_ms) = (false, 50);
        self.fault_every_ms = (100, 1_000);
    }

    fn is_quiet(&self) -> bool {
        let faults = self.crashes || self.partitions || self.pauses || self.transfers;
        !faults && !self.false_notices && self.drop == 0.0 && self.straggle == 0.0
    }
}

impl World {
    /// One of the members will apply an entry wrongly, if the states of all are right.
    pub(super) fn plan_corruption(&mut self) {
        let running = self.running();
        if self.corruption.wrong.is_empty() && self.corruption.pending.is_none() {
            self.corruption.pending = self.dice.pick(&running);
        }
    }

    /// Changes an entry that this member is about to apply: another value, or no deletion.
    pub(super) fn corrupt_entry(&mut self, id: MemberId, committed: &mut Committed) {
        let entry = &mut committed.entry;
        if self.mutant == Some(Mutant::VerdictIgnored) && is_verdict(&entry.data) {
            entry.data = Bytes::new();
        }
        if self.corruption.pending != Some(id) || entry.kind != EntryKind::Command || self.calm {
            return;
        }
        let Some(life) = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref())
        else {
            return;
        };
        let state = life.applier.state();
        // What was before the hash has begun is no part of it.
        if life.applier.is_fenced() || state.applied().hash.is_none() {
            return;
        }
        let view = state.view();
        if let Some(wrong) = corrupted(&entry.data, &view) {
            entry.data = wrong;
            self.corruption.pending = None;
            self.corruption.wrong.insert(id, entry.index);
            self.tally.corruptions += 1;
        }
    }

    /// The outcome of an entry at a member whose state is wrong. Returns it if the state is right.
    pub(super) fn wrong_outcome(
        &mut self,
        id: MemberId,
        index: Index,
        applied: Applied,
    ) -> Result<Option<Applied>, String> {
        let since = self.corruption.wrong.get(&id).copied();
        if let Some(HashOutcome::Differs(divergence)) = applied.hash {
            let Some(since) = since else {
                return Err(format!(
                    "{id} is fenced, and its state is right: {divergence}"
                ));
            };
            let entries = index.0 - since.0;
            if self.corruption.is_alone && ENTRIES_MAX < entries {
                return Err(format!("{id} was found only {entries} entries later"));
            }
        }
        if since.is_none() {
            return Ok(Some(applied));
        }
        let life = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        let fenced = life.is_some_and(|life| life.applier.is_fenced());
        if fenced && applied.hash.is_none() && applied.response != Err(Error::Corrupt) {
            return Err(format!("{id} answers while it is fenced: {applied:?}"));
        }
        if let Some(Waiter::Client(operation)) = self.take_waiter(applied.id) {
            self.finish(operation, Outcome::Unknown);
        }
        Ok(None)
    }

    fn take_waiter(&mut self, id: Option<ProposalId>) -> Option<Waiter> {
        self.waiting.remove(&id?)
    }

    /// A read at a member whose state is wrong. Returns whether it is over.
    pub(super) fn wrong_read(&mut self, id: MemberId, operation: usize, view: &ReadView) -> bool {
        if !self.corruption.is_wrong(id) {
            return false;
        }
        let everything = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            ..RangeRequest::default()
        };
        if view.is_fenced() && view.range(&everything).is_ok() {
            let problem = format!("{id} answers a read while it is fenced");
            self.auth.violation.get_or_insert(problem);
        }
        self.finish(operation, Outcome::Unknown);
        true
    }

    /// A member has another state: that of its disk, or of a snapshot.
    pub(super) fn state_replaced(&mut self, id: MemberId, installed: bool) {
        let life = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        let applied = life.map_or(Index(0), |life| life.applied());
        if installed && self.swarm.corruption {
            self.corruption.ahead.insert(id);
        }
        if installed || applied < self.corruption.wrong.get(&id).copied().unwrap_or_default() {
            self.tally.healed += u64::from(self.corruption.wrong.remove(&id).is_some());
        }
    }

    /// The most that the marks of a member may be: a state that has replaced a wrong one may be
    /// ahead of the log, which is right.
    pub(super) fn most_applied(&mut self, id: MemberId, applied: Index, committed: Index) -> Index {
        if applied <= committed {
            self.corruption.ahead.remove(&id);
        }
        match self.corruption.ahead.contains(&id) {
            true => committed,
            false => Index(u64::MAX),
        }
    }

    /// In calm, every wrong state is found and replaced.
    pub(super) fn heal_all(&mut self) -> Result<(), String> {
        self.corruption.pending = None;
        let mut at = self.clock.now_ms();
        let until = at + self.settle_ms() + HEAL_MS;
        while !self.corruption.wrong.is_empty() && !self.dead {
            if until < at {
                return Err(format!("wrong states remain: {:?}", self.corruption.wrong));
            }
            // The clock stands at the last event: the next one may be further away than a step.
            at += 100;
            self.run_until(at)?;
        }
        Ok(())
    }

    /// Remembers, for a mutant, what a member reports.
    pub(super) fn note_report(&mut self, id: MemberId, note: AuditNote) {
        if let AuditNote::Applied(_, HashOutcome::Compared(report)) = note {
            self.corruption.reports.insert(id, report);
        }
    }

    /// A mutant: all reports have the value of the receiver's own.
    pub(super) fn mistake_report(&mut self, to: MemberId, message: &mut PeerMessage) {
        if self.mutant != Some(Mutant::VerdictOfLeader) {
            return;
        }
        if let Some(PeerMessageKind::HashReport(report)) = &mut message.message
            && let Some(own) = self.corruption.reports.get(&to)
            && own.index.0 == report.index
        {
            report.value = own.value.unwrap_or(0);
        }
    }
}

fn is_verdict(data: &Bytes) -> bool {
    let command = proposal::decode(data).and_then(|(_, command)| Command::decode(command).ok());
    let op = command.and_then(|command| command.op);
    matches!(op, Some(Op::HashCheck(check)) if check.step() == Step::Verdict)
}

/// The entry with which the state becomes another one, if it is of a kind for that.
fn corrupted(data: &Bytes, view: &ReadView) -> Option<Bytes> {
    let (id, command) = proposal::decode(data)?;
    match Command::decode(command).ok()?.op? {
        Op::Put(mut put) => {
            put.value = [&put.value[..], b"!"].concat().into();
            let command = Command {
                op: Some(Op::Put(put)),
            };
            Some(proposal::encode(id, &command.encode_to_vec()))
        }
        Op::DeleteRange(delete) => {
            let range = RangeRequest {
                key: delete.key,
                range_end: delete.range_end,
                count_only: true,
                ..RangeRequest::default()
            };
            let found = view.range(&range).ok()?.count;
            (0 < found).then(Bytes::new)
        }
        _ => None,
    }
}

/// A mutant: the hash of a received snapshot begins anew instead of being continued.
pub(super) fn forget_hash(engine: &keelson_core::engine::MemoryEngine) {
    use keelson_core::engine::{Engine, Table, WriteBatch};
    use keelson_proto::internal::AppliedMark;
    let row = engine.get(Table::Meta, b"applied");
    let row = row.expect("memory does not fail");
    let mark = row.and_then(|row| AppliedMark::decode(row).ok());
    let Some(mut mark) = mark else { return };
    if let Some(hash) = &mut mark.hash {
        hash.value = 0;
    }
    let mut batch = WriteBatch::default();
    batch.put(Table::Meta, &b"applied"[..], mark.encode_to_vec());
    engine.write(&batch).expect("memory does not fail");
}
