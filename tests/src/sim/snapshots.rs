//! Snapshots: read piece by piece while the sender applies, flushes and compacts, sent beside the
//! messages, built into a fresh engine, installed when consensus agrees.

use std::sync::Arc;

use keelson_core::engine::MemoryEngine;
use keelson_core::member::Event as CoreEvent;
use keelson_core::state::{Capture, HashKv, Limits, StateMachine};
use keelson_core::{Index, MemberId, SnapshotMark};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::peer::{RaftMessage, SnapshotChunk};

use super::mutant::Mutant;
use super::nodes;
use super::world::{Event, World};
use crate::invariant::Fact;

/// A snapshot on its way.
pub(super) struct Transfer {
    /// Among all of the run.
    number: u64,
    pub(super) from: MemberId,
    from_boot: u64,
    pub(super) to: MemberId,
    to_boot: u64,
    offer: RaftMessage,
    /// What is left to read.
    capture: Capture,
    /// What has been read.
    chunks: Vec<SnapshotChunk>,
}

/// A capture that goes to no member: what it holds is compared with the state it was taken from.
pub(super) struct Audit {
    of: MemberId,
    boot: u64,
    capture: Capture,
    chunks: Vec<SnapshotChunk>,
    expected: Summary,
}

/// What two equal states have in common.
#[derive(Debug, PartialEq)]
struct Summary {
    hash: HashKv,
    tree: u64,
    members: Vec<Member>,
}

impl Summary {
    fn of(machine: &StateMachine) -> Result<Summary, String> {
        let view = machine.view();
        Ok(Summary {
            hash: view.hash_kv(0).map_err(|error| error.to_string())?,
            tree: view.tree_digest(),
            members: view.members(),
        })
    }
}

/// Pieces of a capture before the large ones.
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
            expected: Summary::of(machine)?,
        };
        self.clock.after(0, Event::AuditPiece(Box::new(audit)));
        Ok(())
    }

    /// Reads the next piece of it, or compares.
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
        let found = Summary::of(&machine.ok_or("a capture holds no state")?)?;
        match found == audit.expected {
            true => Ok(()),
            false => Err(format!(
                "a capture of {} holds {found:?}, not {:?}",
                audit.of, audit.expected
            )),
        }
    }

    /// The next piece. The first ones are small, so that much can happen between a key's rows; a
    /// capture that is read for long would keep every compaction away.
    fn piece_of(
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

    pub(super) fn send_snapshot(
        &mut self,
        from: MemberId,
        to: MemberId,
        mut offer: RaftMessage,
        capture: Capture,
    ) {
        let (from_boot, to_boot) = (self.boot(from), self.boot(to));
        if to_boot == 0 {
            return self.snapshot_fared(from, from_boot, to, false);
        }
        let capture = self.mistake_snapshot(from, &mut offer, capture);
        let Some(number) = self.take_place(from, to, &offer) else {
            return self.snapshot_fared(from, from_boot, to, false);
        };
        let transfer = Transfer {
            number,
            from,
            from_boot,
            to,
            to_boot,
            offer,
            capture,
            chunks: Vec::new(),
        };
        self.clock
            .after(0, Event::SnapshotPiece(Box::new(transfer)));
        self.stand_still(from);
    }

    /// Mistakes in what is sent.
    fn mistake_snapshot(
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
            // Claims the new mark, sends the old state.
            Some(Mutant::SnapshotStale) => {
                let older = self.life(from).and_then(|life| life.captures.first());
                older.cloned().unwrap_or(capture)
            }
            _ => capture,
        }
    }

    /// The sender reads the next piece; the last one sends all of them on their way.
    pub(super) fn read_piece(&mut self, mut transfer: Box<Transfer>) -> Result<(), String> {
        if !self.lives(transfer.from, transfer.from_boot) {
            return Ok(());
        }
        let delay = match self.piece_of(&mut transfer.capture, transfer.chunks.len())? {
            Some(chunk) => {
                transfer.chunks.push(chunk);
                self.dice.between(0, self.swarm.piece_ms)
            }
            None => {
                self.stand_still(transfer.to);
                let most = 20 + self.swarm.delay_ms * 5 + self.swarm.straggle_ms;
                let delay = self.dice.between(1, most);
                self.clock.after(delay, Event::Snapshot(transfer));
                return Ok(());
            }
        };
        self.clock.after(delay, Event::SnapshotPiece(transfer));
        Ok(())
    }

    pub(super) fn snapshot_fared(
        &mut self,
        from: MemberId,
        from_boot: u64,
        to: MemberId,
        ok: bool,
    ) {
        let delay = self.dice.between(1, 1 + self.swarm.delay_ms * 2);
        let event = Event::SnapshotSent(from, from_boot, to, ok);
        self.clock.after(delay, event);
    }

    pub(super) fn snapshot_arrives(&mut self, mut transfer: Transfer) -> Result<(), String> {
        let Transfer { from, to, .. } = transfer;
        let evicted = !self.leave_place(to, transfer.number);
        let broken = evicted
            || !self.lives(to, transfer.to_boot)
            || !self.lives(from, transfer.from_boot)
            || self.net.is_cut(from, to)
            || self.dice.chance(self.swarm.drop);
        let mark = nodes::offered(&transfer.offer).filter(|_| !broken);
        let (built, garbled) = self.receive(&mut transfer.chunks);
        let built = mark.zip(built).and_then(|(mark, engine)| {
            let roster = nodes::roster_of(&engine, mark)?;
            Some((mark, engine, roster))
        });
        let arrived = built.is_some();
        self.check_garbled(to, arrived && garbled)?;
        let member = self.members.get_mut(&to);
        let receiver = member.and_then(|member| Some((&mut member.storage, member.life.as_mut()?)));
        if let (Some((mark, engine, roster)), Some((storage, life))) = (built, receiver) {
            let fresh = life.generations.begin();
            let fresh = fresh.expect("the simulated disk fails only when it crashes");
            storage.keep(&fresh.dir, engine);
            life.received.push((mark, fresh));
            let (offer, roster) = (transfer.offer, Box::new(roster));
            self.event(to, CoreEvent::SnapshotStaged { offer, roster });
        }
        // An answer that gets lost reads as a failure.
        let ok = arrived && !self.net.is_cut(to, from);
        self.snapshot_fared(from, transfer.from_boot, to, ok);
        Ok(())
    }

    /// Builds the state from what has come of it, which may not be what was sent. Whether it is not.
    fn receive(&mut self, chunks: &mut Vec<SnapshotChunk>) -> (Option<Arc<MemoryEngine>>, bool) {
        if self.mutant == Some(Mutant::SnapshotUnchecked) {
            let built = nodes::build(chunks, self.mutant);
            self.garble_engine(built.as_deref());
            return (built, false);
        }
        let garbled = self.garble(chunks);
        (nodes::build(chunks, self.mutant), garbled)
    }

    pub(super) fn install(&mut self, id: MemberId, mark: SnapshotMark) -> Result<(), String> {
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
        self.stand_still(id);
        self.carry_out_applied(id, effects)?;
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let machine = life.machine().expect("just opened");
        let view = machine.view();
        let fact = Fact::Applied {
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
        self.applier_due(id)?;
        self.check_tree(id, self.clock_ns(id))
    }
}
