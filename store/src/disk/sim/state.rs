//! The state of a simulated disk: names and sectors, as written and as durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Chooser, SECTOR_BYTES};

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<usize, Inode>,
    pub(super) next_inode: usize,
    pub(super) names: BTreeMap<PathBuf, Node>,
    /// The changes of names that are not synced, oldest first.
    pub(super) pending: Vec<NameChange>,
    pub(super) durable_names: BTreeMap<PathBuf, Node>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) epoch: u64,
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) writes: u64,
    pub(super) fail_sync: Option<u64>,
    pub(super) fail_write: Option<u64>,
    pub(super) lying: bool,
    /// The number of opens that still fail.
    pub(super) refused_opens: u64,
    pub(super) capacity: Option<u64>,
    pub(super) recording: Option<Vec<(u64, String, State)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(usize),
    Dir,
}

#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) dir: PathBuf,
    pub(super) removed: Option<PathBuf>,
    pub(super) added: Option<(PathBuf, Node)>,
}

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) data: Vec<u8>,
    pub(super) durable_bytes: usize,
    /// The durable content of the sectors that differ from `data`.
    pub(super) stale: BTreeMap<usize, Stale>,
}

#[derive(Clone)]
pub(super) struct Stale {
    pub(super) durable: Vec<u8>,
    /// Whether the next sync writes it; a failed sync clears this.
    pub(super) dirty: bool,
}

impl State {
    pub(super) fn without_recording(&mut self) -> State {
        let recording = self.recording.take();
        let copy = self.clone();
        self.recording = recording;
        copy
    }

    pub(super) fn forget_process(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.fail_sync = None;
        self.fail_write = None;
        self.refused_opens = 0;
        self.lying = false;
    }

    pub(super) fn note(&mut self, what: &str) {
        if self.recording.is_none() {
            return;
        }
        let mut copy = self.without_recording();
        copy.forget_process();
        let moment = (self.operations, what.to_owned(), copy);
        if let Some(recording) = &mut self.recording {
            recording.push(moment);
        }
    }

    pub(super) fn done(&mut self, what: &str) {
        self.operations += 1;
        self.note(what);
    }

    pub(super) fn crash(&mut self, choose: Chooser<'_>) {
        self.forget_process();
        for change in std::mem::take(&mut self.pending) {
            if choose(2) == 1 {
                change.apply(&mut self.durable_names);
            }
        }
        let names = &self.durable_names;
        let survives = |path: &PathBuf| {
            path.ancestors()
                .skip(1)
                .all(|dir| dir.parent().is_none() || matches!(names.get(dir), Some(Node::Dir)))
        };
        self.names = names.clone();
        self.names.retain(|path, _| survives(path));
        self.durable_names = self.names.clone();
        self.forget_unnamed();
        for inode in self.inodes.values_mut() {
            inode.crash(choose);
        }
    }

    pub(super) fn inode_mut(&mut self, path: &Path) -> io::Result<&mut Inode> {
        match self.names.get(path) {
            Some(Node::File(inode)) => self.inodes.get_mut(inode).ok_or_else(gone),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn change(&mut self, change: NameChange, what: &str) {
        change.apply(&mut self.names);
        self.pending.push(change);
        self.done(what);
    }

    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        let parent = parent(path);
        match parent.parent().is_none() || self.names.get(&parent) == Some(&Node::Dir) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn check_capacity(&self, growth: usize) -> io::Result<()> {
        let live = self.names.values().filter_map(|node| match node {
            Node::File(inode) => self.inodes.get(inode).map(|inode| inode.data.len() as u64),
            Node::Dir => None,
        });
        match self.capacity {
            Some(capacity) if capacity < live.sum::<u64>() + growth as u64 => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Drops files that no name refers to, now or after any crash.
    pub(super) fn forget_unnamed(&mut self) {
        let added = self
            .pending
            .iter()
            .filter_map(|change| change.added.as_ref());
        let nodes = self.names.values().chain(self.durable_names.values());
        let nodes = nodes.chain(added.map(|(_, node)| node));
        let named: BTreeSet<usize> = nodes
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Dir => None,
            })
            .collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    /// Checks that an open is allowed at present.
    pub(super) fn take_descriptor(&mut self) -> io::Result<()> {
        match self.refused_opens.checked_sub(1) {
            Some(left) => {
                self.refused_opens = left;
                Err(io::Error::from_raw_os_error(super::super::EMFILE))
            }
            None => Ok(()),
        }
    }

    /// Counts a sync; returns whether it fails.
    pub(super) fn sync_fails(&mut self) -> bool {
        let fails = self.fail_sync == Some(self.syncs);
        self.syncs += 1;
        fails
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(removed) = &self.removed {
            names.retain(|path, _| !path.starts_with(removed));
        }
        if let Some((path, node)) = &self.added {
            names.insert(path.clone(), *node);
        }
    }
}

impl Inode {
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        let old_bytes = self.data.len();
        if old_bytes < end {
            self.data.resize(end, 0);
        }
        let first = offset.min(old_bytes) / SECTOR_BYTES;
        for sector in first..end.div_ceil(SECTOR_BYTES) {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES)
                .min(old_bytes)
                .max(from.min(old_bytes));
            let data = &self.data;
            let stale = self.stale.entry(sector).or_insert_with(|| Stale {
                durable: data[from.min(old_bytes)..to].to_vec(),
                dirty: true,
            });
            stale.dirty = true;
        }
        self.data[offset..end].copy_from_slice(bytes);
    }

    pub(super) fn sync(&mut self) {
        self.stale.retain(|_, stale| !stale.dirty);
        self.durable_bytes = self.data.len();
    }

    pub(super) fn crash(&mut self, choose: Chooser<'_>) {
        let mut size = self.durable_bytes;
        for (sector, stale) in std::mem::take(&mut self.stale) {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(self.data.len());
            let mut old = stale.durable;
            old.resize(to - from, 0);
            let choice = choose(3);
            let now = &mut self.data[from..to];
            match choice {
                0 => now.copy_from_slice(&old),
                1 => size = size.max(to),
                _ => {
                    size = size.max(to);
                    let cut = usize::try_from(choose(old.len() as u64)).expect("below 512");
                    match choose(2) {
                        0 => now[cut..].copy_from_slice(&old[cut..]),
                        _ => now[..cut].copy_from_slice(&old[..cut]),
                    }
                }
            }
        }
        self.data.truncate(size);
        self.durable_bytes = size;
    }
}

pub(super) fn gone() -> io::Error {
    io::Error::other("the file was removed for good while open")
}

pub(super) fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}
