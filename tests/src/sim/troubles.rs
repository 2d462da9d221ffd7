//! Disks that stall, processes that stop in the middle of a snapshot or a compaction, and snapshots
//! that are damaged in transfer.

use keelson_core::MemberId;
use keelson_core::engine::{Engine, MemoryEngine, Table, WriteBatch};
use keelson_proto::peer::{Rows, SnapshotChunk, snapshot_chunk::Part};

use super::dice::Dice;
use super::faults::Fault;
use super::storage;
use super::swarm::Swarm;
use super::world::World;

/// Which of these a run has. Probabilities are between 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Troubles {
    /// Sometimes a log's disk finishes no sync for seconds.
    pub stalls: bool,
    /// Probability that a process stops while it sends, receives or installs a snapshot, or
    /// compacts.
    pub still: f64,
    /// Probability that a snapshot is damaged in transfer.
    pub garble: f64,
    /// Disks of a minority are damaged while their processes are down.
    pub damage: bool,
    /// Sometimes all disks are damaged at once.
    pub damage_all: bool,
    /// Disks are replaced by empty ones.
    pub lost_disks: bool,
}

/// A damaged snapshot was accepted: a mistake of the receiver, or of the check.
const TAKEN: &str = "takes a snapshot that was damaged on its way";

impl Troubles {
    /// The part that remains in the second phase.
    pub(super) fn calm(self) -> Troubles {
        Troubles {
            damage: self.damage,
            ..Troubles::default()
        }
    }
}

impl Swarm {
    /// Drawn from dice of its own, so that other draws do not depend on it.
    pub(super) fn draw_troubles(&mut self, dice: &mut Dice) {
        self.troubles.stalls = dice.chance(0.2);
        if dice.chance(0.3) {
            self.troubles.still = dice.pick(&[0.02, 0.2]).expect("not empty");
        }
        if dice.chance(0.3) {
            self.troubles.garble = dice.pick(&[0.1, 0.5]).expect("not empty");
        }
        // Other membership changes could cost the quorum that the damage leaves.
        if !self.membership && 3 <= self.members && dice.chance(0.4) {
            self.troubles.damage = true;
            self.troubles.lost_disks = dice.chance(0.5);
            self.troubles.damage_all = dice.chance(0.25);
        }
    }
}

impl Troubles {
    /// The kinds that are drawn like crashes.
    pub(super) fn kinds(self) -> [(bool, Fault); 6] {
        [
            (self.stalls, Fault::StallDisk),
            (self.damage, Fault::Damage),
            (self.damage, Fault::Damage),
            (self.damage, Fault::CrashOne),
            (self.damage_all, Fault::DamageAll),
            (self.lost_disks, Fault::LoseDisk),
        ]
    }
}

impl World {
    /// A member's log finishes no sync for a while.
    pub(super) fn stall_disk(&mut self) {
        let running = self.running();
        let until = self.clock.now_ms() + self.dice.between(1_000, 10_000);
        if let Some(id) = self.dice.pick(&running)
            && let Some(member) = self.members.get_mut(&id)
        {
            member.disk_stalls_until = until;
        }
    }

    /// The least time of a sync of the member's log.
    pub(super) fn disk_stalls_ms(&self, id: MemberId) -> u64 {
        let until = self.members.get(&id).map(|member| member.disk_stalls_until);
        until.unwrap_or(0).saturating_sub(self.clock.now_ms())
    }

    /// A process is in the middle of some work, and perhaps stops there.
    pub(super) fn stand_still(&mut self, id: MemberId) {
        if self.calm || !self.dice.chance(self.swarm.troubles.still) {
            return;
        }
        // The longest value exceeds the timeout for a silent sender.
        let longest = self.dice.pick(&[100, 2_000, 8_000, 40_000]);
        let length = self.dice.between(50, longest.expect("not empty"));
        self.tally.faults += 1;
        self.stop_until(id, self.clock.now_ms() + length);
    }

    /// Perhaps damages a snapshot in transfer. Returns whether it did.
    pub(super) fn garble(&mut self, chunks: &mut Vec<SnapshotChunk>) -> bool {
        if !self.dice.chance(self.swarm.troubles.garble) || chunks.is_empty() {
            return false;
        }
        let last = chunks.len() - 1;
        let at = usize::try_from(self.dice.between(0, last as u64)).expect("an index");
        match self.dice.between(0, 3) {
            0 => drop(chunks.remove(at)),
            1 => chunks.insert(at, chunks[at].clone()),
            _ => {
                let rows = chunks.iter_mut().skip(at).find_map(rows_of);
                match rows {
                    Some(rows) => garble_rows(rows, &mut self.dice),
                    None => chunks.truncate(last),
                }
            }
        }
        self.tally.garbled += 1;
        true
    }

    /// A mutant: damages a snapshot whose checksum is not verified.
    pub(super) fn garble_engine(&mut self, engine: Option<&MemoryEngine>) {
        let Some(engine) = engine.filter(|_| self.dice.chance(self.swarm.troubles.garble)) else {
            return;
        };
        if let Some((key, value)) = storage::rows(engine, Table::Key).pop() {
            let mut bytes = value.to_vec();
            bytes
                .iter_mut()
                .for_each(|byte| *byte ^= u8::from(*byte == b'v'));
            let mut batch = WriteBatch::default();
            batch.put(Table::Key, key, bytes);
            engine.write(&batch).expect("memory does not fail");
        }
    }

    /// Checks that a damaged snapshot was not accepted.
    pub(super) fn check_garbled(&self, to: MemberId, taken: bool) -> Result<(), String> {
        match taken {
            true => Err(format!("{to} {TAKEN}")),
            false => Ok(()),
        }
    }
}

fn rows_of(chunk: &mut SnapshotChunk) -> Option<&mut Rows> {
    match &mut chunk.part {
        Some(Part::Rows(rows)) if !rows.rows.is_empty() => Some(rows),
        _ => None,
    }
}

/// Removes a row, shortens it, moves it to another table, or flips a bit of it.
fn garble_rows(rows: &mut Rows, dice: &mut Dice) {
    let last = rows.rows.len() - 1;
    let at = usize::try_from(dice.between(0, last as u64)).expect("an index");
    let row = &mut rows.rows[at];
    let field = match row.value.is_empty() {
        true => &mut row.key,
        false => &mut row.value,
    };
    match dice.between(0, 3) {
        0 => drop(rows.rows.remove(at)),
        1 => rows.table = (rows.table + 1) % 8,
        2 => *field = field.slice(..field.len().saturating_sub(1)),
        _ => {
            let mut bytes = field.to_vec();
            let byte = dice.between(0, bytes.len().saturating_sub(1) as u64);
            if let Some(byte) = bytes.get_mut(usize::try_from(byte).expect("an index")) {
                *byte ^= 1 << dice.between(0, 7);
            }
            *field = bytes.into();
        }
    }
}
