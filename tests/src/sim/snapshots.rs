//! Snapshots: captures are compared with the state that they were taken from, and a received
//! snapshot is installed when consensus agrees.

use std::sync::Arc;

use keelson_core::engine::MemoryEngine;
use keelson_core::state::{Capture, HashKv, Limits, StateMachine};
use keelson_core::{Index, LastIncluded, MemberId};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::peer::{RaftMessage, SnapshotChunk};

use super::dice::Dice;
use super::event::Event;
use super::mutant::Mutant;
use super::nodes;
use super::swarm::Swarm;
use super::world::World;
use crate::invariant::Fact;

/// A capture that is not sent: its contents are compared with the state it was taken from.
pub(super) struct Audit {
    of: MemberId,
    boot: u64,
    capture: Capture,
    chunks: Vec<SnapshotChunk>,
    expected: StateSummary,
}

/// Properties that two equal states share.
#[derive(Debug, PartialEq)]
struct StateSummary {
    hash: HashKv,
    tree: u64,
    members: Vec<Member>,
}

impl StateSummary {
    fn of(machine: &StateMachine) -> Result<StateSummary, String> {
        let view = machine.view();
        Ok(StateSummary {
            hash: view.hash_kv(0).map_err(|error| error.to_string())?,
            tree: view.tree_digest(),
            members: view.members(),
        })
    }
}

/// The number of small pieces of a capture, before the large ones.
const SMALL_PIECES: usize = 20;

impl World {
    /// Begins to read a member's state.
    pub(super) fn audit(&mut self, of: MemberId) -> Result<(), String> {
        let boot = self.boot(of);
        let machine = self.life(of).and_then(|life| life.machine());
        let Some(machine) = machine else {
            return Ok(());
        };
        let audit = Audit {
            of,
            boot,
            capture: machine.capture().map_err(|error| error.to_string())?,
            chunks: Vec::new(),
            expected: StateSummary::of(machine)?,
        };
        self.clock.after(0, Event::AuditPiece(Box::new(audit)));
        Ok(())
    }

    /// Reads the next piece, or compares at the end.
    pub(super) fn audit_piece(&mut self, mut audit: Box<Audit>) -> Result<(), String> {
        if !self.lives(audit.of, audit.boot) {
            return Ok(());
        }
        if let Some(chunk) = self.piece_of(&mut audit.capture, audit.chunks.len())? {
            audit.chunks.push(chunk);
            let delay = self.dice.between(0, self.swarm.piece_ms);
            self.clock.after(delay, Event::AuditPiece(audit));
            return Ok(());
        }
        let engine = nodes::build(&audit.chunks, None).ok_or("a capture is damaged")?;
        let machine = StateMachine::open(engine, Limits::default());
        let machine = machine.map_err(|error| error.to_string())?;
        let found = StateSummary::of(&machine.ok_or("a capture holds no state")?)?;
        match found == audit.expected {
            true => Ok(()),
            false => Err(format!(
                "a capture of {} holds {found:?}, not {:?}",
                audit.of, audit.expected
            )),
        }
    }

    /// The next piece. The first ones are small, so that other events happen between a key's rows.
    /// A capture that is read for long would delay every compaction.
    pub(super) fn piece_of(
        &mut self,
        capture: &mut Capture,
        before: usize,
    ) -> Result<Option<SnapshotChunk>, String> {
        let max_bytes = match before < SMALL_PIECES {
            true => self.dice.pick(&[1, 1, 200]).expect("not empty"),
            false => 1 << 20,
        };
        let piece = capture.next_chunk(max_bytes);
        piece.map_err(|error| error.to_string())
    }

    /// A mutant's changes to what is sent.
    pub(super) fn mistake_snapshot(
        &mut self,
        from: MemberId,
        offer: &mut RaftMessage,
        capture: Capture,
    ) -> Capture {
        match self.mutant {
            Some(Mutant::SnapshotWithoutMembership) => {
                if let Some(meta) = &mut offer.snapshot {
                    meta.conf_state = Some(Default::default());
                }
                capture
            }
            // Claims the new index, sends the old state.
            Some(Mutant::SnapshotStale) => {
                let older = self.life(from).and_then(|life| life.captures.first());
                older.cloned().unwrap_or(capture)
            }
            _ => capture,
        }
    }

    /// Builds the state from the received chunks. Returns whether they differ from what was sent.
    pub(super) fn receive(
        &mut self,
        chunks: &mut Vec<SnapshotChunk>,
    ) -> (Option<Arc<MemoryEngine>>, bool) {
        if self.mutant == Some(Mutant::SnapshotUnchecked) {
            let built = nodes::build(chunks, self.mutant);
            self.garble_engine(built.as_deref());
            return (built, false);
        }
        let garbled = self.garble(chunks);
        (nodes::build(chunks, self.mutant), garbled)
    }

    pub(super) fn install(&mut self, id: MemberId, mark: LastIncluded) -> Result<(), String> {
        self.tally.snapshots += 1;
        self.note(id.0 << 40 ^ mark.index.0);
        let mutant = self.mutant;
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        let Some(life) = member.life.as_mut() else {
            return Ok(());
        };
        if mutant == Some(Mutant::SnapshotIgnored) && life.machine().is_some() {
            life.apply_queue.clear();
            return Ok(());
        }
        let effects = life.switch_engine(mark, &mut member.storage);
        self.state_replaced(id, true);
        self.stand_still(id);
        self.resume_watchers(id)?;
        self.watches_see_snapshot(id);
        self.carry_out_applied(id, effects)?;
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let machine = life.machine().expect("just opened");
        let view = machine.view();
        let fact = Fact::Applied {
            auth: None,
            member: id,
            index: Index(machine.applied().index),
            revision: view.revision(),
            hash: Some(view.hash_kv(0).map_err(|error| error.to_string())?.hash),
            tree: Some(view.tree_digest()),
        };
        if machine.applied().index != mark.index.0 {
            return Err(format!(
                "{id} installed {:?} for {mark:?}",
                machine.applied()
            ));
        }
        self.fact(&fact)?;
        self.compare_auth(id)?;
        self.applier_due(id)?;
        self.check_tree(id, self.clock_ns(id))
    }
}

impl Swarm {
    /// Draws how snapshots are read and what happens meanwhile, likewise from dice of their own.
    pub(super) fn draw_pieces(&mut self, dice: &mut Dice) {
        self.piece_ms = dice.pick(&[5, 20, 50]).expect("not empty");
        if dice.chance(0.5) {
            self.churn();
        }
    }

    /// Clients delete and compact, and members die, so that followers need snapshots.
    pub(super) fn churn(&mut self) {
        (self.churn, self.compaction, self.crashes) = (true, true, true);
        (self.catch_up_entries, self.think_ms) = (5, 50);
        self.fault_every_ms = (100, 1_000);
    }
}
