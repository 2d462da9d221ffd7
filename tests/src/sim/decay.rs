//! How a simulated disk is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::engine::{Table, WriteBatch};
use keelson_store::internals::disk::sim::{SECTOR_BYTES, SimDisk};
use keelson_store::internals::disk::{Disk, DiskFile};

use super::damage::Damage;
use super::dice::Dice;
use super::storage::{self, Storage, WAL};

/// The disk's contents before the damage.
pub(super) struct Saved {
    disk: SimDisk,
    row: Option<(Table, Bytes, Bytes)>,
    /// The log ended in the sector that is zeroed now.
    pub(super) ended_there: bool,
}

impl Saved {
    /// The row that was changed.
    pub(super) fn row(&self) -> Option<(Table, Bytes)> {
        let (table, key, _) = self.row.as_ref()?;
        Some((*table, key.clone()))
    }
}

const NO_FAILURE: &str = "the simulated disk fails only when it crashes";

impl Storage {
    /// Keeps a copy of the log, as an operator might.
    pub(super) fn back_up(&mut self) {
        if !self.segments().is_empty() {
            self.backup = Some(self.disk.fork());
        }
    }

    /// Damages the disk; returns its former contents.
    pub(super) fn damage(&mut self, damage: Damage, dice: &mut Dice) -> Saved {
        // Earlier writes are on the disk by now: a later loss of power cannot bring back the former
        // contents.
        self.disk.crash(&mut |_| 1);
        let mut saved = Saved {
            disk: self.disk.fork(),
            row: None,
            ended_there: false,
        };
        match damage {
            Damage::FlipBit => self.flip_bit(dice),
            Damage::ZeroSector => self.zero_sector(dice),
            Damage::ZeroTail => saved.ended_there = self.zero_tail(),
            Damage::Truncate => self.truncate(dice),
            Damage::ZeroFile => {
                if let Some(file) = dice.pick_of(&self.segments()) {
                    let size = self.bytes(&file).len();
                    self.zero(&file, 0, size);
                }
            }
            Damage::RemoveFile => {
                if let Some(file) = dice.pick_of(&self.segments()) {
                    self.disk.remove(&file).expect(NO_FAILURE);
                    self.disk.sync_dir(Path::new(WAL)).expect(NO_FAILURE);
                }
            }
            Damage::OlderLog => self.older_log(),
            Damage::EngineRow => saved.row = self.change_row(dice),
        }
        saved
    }

    /// Undoes the damage.
    pub(super) fn restore(&mut self, saved: Saved) {
        self.disk = Arc::new(saved.disk);
        if let Some((table, key, value)) = saved.row {
            self.put(table, key, value);
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let names = self.disk.list(Path::new(WAL)).unwrap_or_default();
        let mut names: Vec<_> = names.into_iter().filter(|n| n.ends_with(".wal")).collect();
        names.sort();
        names.iter().map(|name| Path::new(WAL).join(name)).collect()
    }

    fn bytes(&self, file: &Path) -> Vec<u8> {
        self.disk.bytes(file).unwrap_or_default()
    }

    fn flip_bit(&self, dice: &mut Dice) {
        let Some(file) = dice.pick_of(&self.segments()) else {
            return;
        };
        let bytes = self.bytes(&file);
        let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else {
            return;
        };
        let from = match dice.chance(0.5) {
            true => last.saturating_sub(SECTOR_BYTES),
            false => 0,
        };
        let at = dice.between(from as u64, last as u64);
        self.disk.flip(&file, at, 1 << dice.between(0, 7));
    }

    fn zero_sector(&self, dice: &mut Dice) {
        let Some(file) = dice.pick_of(&self.segments()) else {
            return;
        };
        let bytes = self.bytes(&file);
        let sectors = bytes.chunks(SECTOR_BYTES).enumerate();
        let written = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
        let mut written: Vec<usize> = written.map(|(number, _)| number).collect();
        // The last sector that belongs to frames is left to `zero_tail`.
        let watermark = bytes.len() / SECTOR_BYTES - 1;
        let ends = written.iter().rposition(|sector| *sector != watermark);
        ends.map(|at| written.remove(at));
        if let Some(sector) = dice.pick(&written) {
            self.zero(&file, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
        }
    }

    /// Zeroes the sector in which the log ends. The segment's last sector is the watermark's, and
    /// does not count. Returns whether there is one.
    fn zero_tail(&self) -> bool {
        let Some(file) = self.segments().pop() else {
            return false;
        };
        let bytes = self.bytes(&file);
        let frames = bytes.len().saturating_sub(SECTOR_BYTES);
        let Some(last) = bytes[..frames].iter().rposition(|byte| *byte != 0) else {
            return false;
        };
        let sector = last / SECTOR_BYTES * SECTOR_BYTES;
        self.zero(&file, sector, sector + SECTOR_BYTES);
        true
    }

    fn zero(&self, file: &Path, from: usize, to: usize) {
        let bytes = self.bytes(file);
        for (at, byte) in bytes.iter().enumerate().take(to).skip(from) {
            if *byte != 0 {
                self.disk.flip(file, at as u64, *byte);
            }
        }
    }

    /// A mutant's repair: treats everything from the first bad frame on as never written.
    pub(super) fn forget_from(&self, file: &Path, from: u64) {
        let size = self.bytes(file).len();
        let from = usize::try_from(from).expect("within memory");
        self.zero(file, from, size);
        for later in self.segments().into_iter().filter(|later| file < later) {
            self.disk.remove(&later).expect(NO_FAILURE);
        }
        self.disk.sync_dir(Path::new(WAL)).expect(NO_FAILURE);
    }

    fn truncate(&self, dice: &mut Dice) {
        if let Some(file) = dice.pick_of(&self.segments()) {
            let size = self.bytes(&file).len() as u64;
            let to = dice.between(0, size.saturating_sub(1));
            self.disk.truncate(&file, to);
        }
    }

    fn older_log(&mut self) {
        let Some(backup) = self.backup.take() else {
            return;
        };
        let dir = Path::new(WAL);
        for name in self.disk.list(dir).expect(NO_FAILURE) {
            self.disk.remove(&dir.join(name)).expect(NO_FAILURE);
        }
        for name in backup.list(dir).expect(NO_FAILURE) {
            let path = dir.join(name);
            let file = self.disk.create(&path).expect(NO_FAILURE);
            let bytes = backup.bytes(&path).unwrap_or_default();
            file.write_at(0, &bytes).expect(NO_FAILURE);
            file.sync_data().expect(NO_FAILURE);
        }
        self.disk.sync_dir(dir).expect(NO_FAILURE);
    }

    /// Flips a bit of one row, or cuts its end.
    fn change_row(&self, dice: &mut Dice) -> Option<(Table, Bytes, Bytes)> {
        let tables = Table::ALL.iter().copied();
        let rows = tables.map(|table| (table, storage::rows(&self.engine, table)));
        let rows: Vec<_> = rows.filter(|(_, rows)| !rows.is_empty()).collect();
        let (table, rows) = dice.pick_of(&rows)?;
        let (key, value) = dice.pick_of(&rows)?;
        let mut changed = value.to_vec();
        let at = dice.between(0, changed.len().saturating_sub(1) as u64);
        match changed.get_mut(usize::try_from(at).ok()?) {
            Some(byte) if dice.chance(0.7) => *byte ^= 1 << dice.between(0, 7),
            _ => drop(changed.pop()),
        }
        self.put(table, key.clone(), changed);
        Some((table, key, value))
    }

    /// A mutant: an engine without the row that does not decode.
    pub(super) fn forget_row(&self, table: Table, key: Bytes) {
        let mut batch = WriteBatch::default();
        batch.delete(table, key);
        self.write(&batch);
    }

    fn put(&self, table: Table, key: Bytes, value: impl Into<Bytes>) {
        let mut batch = WriteBatch::default();
        batch.put(table, key, value);
        self.write(&batch);
    }
}
