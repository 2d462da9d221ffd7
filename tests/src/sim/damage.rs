//! Damage to a disk while its process is down, and its permitted outcomes.
//!
//! The promise: a member that is started on a damaged disk refuses, or has everything that was
//! durable. Three kinds of damage cannot be detected (docs/decisions/0017-own-log.md): a sector of
//! the very last frame that became zeros before the log was at rest, with all frames in it if the
//! log ended there; a log that is as a whole an older copy, as long as the engine holds no more
//! than it; and a row of the engine that changed and still decodes. Such damage is undone, since it
//! may cost the cluster any part of its state, unless a majority of other members holds what was
//! lost. Then the member goes on, and the leader detects the loss or sends the entries again.

use std::sync::Arc;

use keelson_core::engine::{Engine, MemoryEngine};
use keelson_core::node::Restored;
use keelson_core::state::{Limits, StateMachine};
use keelson_core::{LastIncluded, MemberId};
use keelson_proto::internal::ConfState;
use keelson_proto::peer::SnapshotEnd;
use keelson_proto::peer::snapshot_chunk::Part;

use super::decay::Saved;
use super::dice::Dice;
use super::lives::Attempt;
use super::mutant::Mutant;
use super::world::World;
use crate::invariant::{Fact, Lines};

/// A kind of damage to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// One bit of the log is flipped.
    FlipBit,
    /// One sector of the log is zeroed.
    ZeroSector,
    /// The sector in which the log ends is zeroed.
    ZeroTail,
    /// A file of the log is truncated.
    Truncate,
    /// A file of the log is zeroed.
    ZeroFile,
    /// A file of the log is removed.
    RemoveFile,
    /// The log is replaced by an older copy.
    OlderLog,
    /// A row of the engine is changed.
    EngineRow,
}

impl Damage {
    pub(super) fn draw(dice: &mut Dice, mutant: Option<Mutant>) -> Damage {
        match mutant {
            Some(Mutant::BeganUnchecked) => return Damage::OlderLog,
            Some(Mutant::LossIgnored) => return Damage::ZeroTail,
            Some(Mutant::EngineDamagePassed) => return Damage::EngineRow,
            _ => {}
        }
        let kinds = [
            Damage::FlipBit,
            Damage::FlipBit,
            Damage::ZeroSector,
            Damage::ZeroSector,
            Damage::ZeroTail,
            Damage::ZeroTail,
            Damage::Truncate,
            Damage::ZeroFile,
            Damage::RemoveFile,
            Damage::OlderLog,
            Damage::OlderLog,
            Damage::EngineRow,
        ];
        dice.pick(&kinds).expect("not empty")
    }
}

/// The contents of a damaged log.
struct Finding {
    /// Everything that was durable is there.
    is_whole: bool,
    /// The missing part was written with the last sync before the log was at rest.
    is_last: bool,
    /// The missing part was written after the log was last at rest.
    is_in_sector: bool,
    /// A majority of other members holds the missing part, and no vote is missing.
    is_held: bool,
}

impl World {
    /// Starts a member whose disk was damaged while it was down.
    pub(super) fn start_damaged(&mut self, id: MemberId, damage: Damage) -> Result<(), String> {
        self.tally.damages += 1;
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        let before = digest(&member.storage.engine);
        let saved = member.storage.damage(damage, &mut self.dice);
        if self.trace {
            println!("{:>8} {id} is damaged: {damage:?}", self.clock.now_ms());
        }
        let attempt = match self.attempt(id) {
            Attempt::Refused(_) if self.mutant == Some(Mutant::EngineDamagePassed) => {
                self.pass_over(id, &saved)
            }
            attempt => attempt,
        };
        let (restored, mark) = match attempt {
            Attempt::Started(restored, mark) => (restored, mark),
            Attempt::Refused(why) => return self.break_down(id, &why),
            Attempt::Later => return Ok(()),
        };
        let finding = self.find(id, &restored);
        // A member without earlier state has created it just now.
        let engine_differs = before.is_some() && self.engine_digest(id) != before;
        if finding.is_whole && !engine_differs {
            return self.started(id, &restored, mark);
        }
        if damage == Damage::EngineRow && self.mutant == Some(Mutant::EngineDamagePassed) {
            return self.started(id, &restored, mark);
        }
        let is_last = finding.is_last || (saved.ended_there && finding.is_in_sector);
        if !self.is_out_of_reach(id, damage, is_last, &restored) {
            return Err(format!(
                "damage: {id} did not detect {damage:?} of {} and restarted with {:?} and entries \
                 {} to {}",
                self.held(id),
                restored.hard_state,
                restored.log_start.index.0 + 1,
                restored.log_start.index.0 + restored.entries.len() as u64,
            ));
        }
        if finding.is_held && !engine_differs {
            return self.go_on_decayed(id, &restored, mark);
        }
        self.tally.undone += 1;
        if let Some(member) = self.members.get_mut(&id) {
            member.life = None;
            member.storage.restore(saved);
        }
        match self.attempt(id) {
            Attempt::Started(restored, mark) => self.started(id, &restored, mark),
            Attempt::Refused(why) => Err(format!("{id} cannot start: {why}")),
            Attempt::Later => Ok(()),
        }
    }

    /// A mutant: ignores the damaged row.
    fn pass_over(&mut self, id: MemberId, saved: &Saved) -> Attempt {
        if let (Some((table, key)), Some(member)) = (saved.row(), self.members.get(&id)) {
            member.storage.forget_row(table, key);
        }
        self.attempt(id)
    }

    fn go_on_decayed(
        &mut self,
        id: MemberId,
        restored: &Restored,
        mark: Option<LastIncluded>,
    ) -> Result<(), String> {
        self.tally.decayed += 1;
        if let Some(member) = self.members.get_mut(&id) {
            member.decayed = true;
        }
        self.fact(&Fact::Decayed {
            member: id,
            restored,
        })?;
        self.started(id, restored, mark)
    }

    /// Whether no check of the member itself can detect the loss.
    fn is_out_of_reach(
        &self,
        id: MemberId,
        damage: Damage,
        is_last: bool,
        restored: &Restored,
    ) -> bool {
        match damage {
            Damage::ZeroSector | Damage::ZeroTail => is_last,
            Damage::EngineRow => true,
            Damage::OlderLog => {
                let last = restored.log_start.index.0 + restored.entries.len() as u64;
                let life = self
                    .members
                    .get(&id)
                    .and_then(|member| member.life.as_ref());
                life.is_some_and(|life| {
                    let mark = LastIncluded::from(&life.applier.state().applied());
                    mark.index.0 <= last || life.generations.began() == Some(mark)
                })
            }
            _ => false,
        }
    }

    fn find(&self, id: MemberId, restored: &Restored) -> Finding {
        let ledger = self.invariants.ledger();
        let (Some(logs), Some(member)) = (ledger.logs(id), self.members.get(&id)) else {
            return Finding {
                is_whole: true,
                is_last: true,
                is_in_sector: true,
                is_held: true,
            };
        };
        let found = Lines::of_log(restored);
        let (held, state) = (logs.hard_state, restored.hard_state);
        let mut states = logs.pending_hard_states().chain([held]);
        let boot = member.life.as_ref().map_or(0, |life| life.log.boot());
        let is_new_life = member.last_boot < boot;
        let is_prefix = logs.durable.begins_with(&found);
        let same_vote = (held.term, held.vote) == (state.term, state.vote);
        let lost = found.last() + 1..=logs.durable.last();
        let mut lost = lost.filter_map(|index| Some((index, logs.durable.at(index)?)));
        Finding {
            is_whole: states.any(|held| held == state) && logs.could_become(&found) && is_new_life,
            is_last: is_prefix && logs.settled <= found.last(),
            is_in_sector: is_prefix && logs.rested <= found.last(),
            is_held: is_prefix
                && same_vote
                && is_new_life
                && lost.all(|(index, line)| {
                    let holders = self.sound(ledger.holders(index, line), id);
                    ledger.memberships().all(|conf| is_majority(conf, &holders))
                }),
        }
    }

    fn held(&self, id: MemberId) -> String {
        let logs = self.invariants.ledger().logs(id);
        logs.map_or(String::new(), |logs| {
            let (settled, rested, last) = (logs.settled, logs.rested, logs.durable.last());
            let state = logs.hard_state;
            format!("{state:?} and {last} entries, {settled} of them settled, {rested} at rest")
        })
    }

    /// The members with undamaged disks, except `without`.
    fn sound(&self, mut members: Vec<MemberId>, without: MemberId) -> Vec<MemberId> {
        members.retain(|id| {
            let member = self.members.get(id);
            *id != without && member.is_some_and(|member| !member.retired && member.is_sound())
        });
        members
    }

    fn engine_digest(&self, id: MemberId) -> Option<SnapshotEnd> {
        let life = self.members.get(&id)?.life.as_ref()?;
        digest_of(life.applier.state())
    }
}

fn is_majority(conf: &ConfState, holders: &[MemberId]) -> bool {
    let holds = |voter: &&u64| holders.contains(&MemberId(**voter));
    conf.voters.len() < 2 * conf.voters.iter().filter(holds).count()
}

/// A digest of all rows that a snapshot of the engine would have; none if it cannot be read.
fn digest(engine: &Arc<MemoryEngine>) -> Option<SnapshotEnd> {
    let engine = Arc::clone(engine) as Arc<dyn Engine>;
    let state = StateMachine::open(engine, Limits::default());
    digest_of(&state.ok()??)
}

fn digest_of(state: &StateMachine) -> Option<SnapshotEnd> {
    let mut chunks = state.capture().ok()?.chunks(1 << 20);
    chunks.find_map(|chunk| match chunk.ok()?.part {
        Some(Part::End(end)) => Some(end),
        _ => None,
    })
}
