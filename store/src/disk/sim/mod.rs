//! A disk in memory that separates written from durable data, and can lose power.
//!
//! The model is pessimistic. Until its file is synced, each 512-byte sector may survive or not,
//! independently of the others. Until its directory is synced, so may each create, rename and
//! remove. A torn sector is new up to some byte and old after it, or the reverse. After a failed
//! sync the dirty sectors count as clean although they are not durable, as on Linux: only another
//! write lets the next sync make them durable. It has no randomness: the caller of a crash makes
//! each choice.
//!
//! For tests: poisoned locks and misuse panic.

mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::{Disk, DiskFile};
use state::{Inode, NameChange, Node, State, gone, parent};

/// The size of a sector, in bytes: written completely, torn, or not written.
pub const SECTOR_BYTES: usize = 512;

/// Makes the choices of a crash: returns a number below its argument.
pub type Chooser<'a> = &'a mut dyn FnMut(u64) -> u64;

/// A simulated disk. Clones share the disk; [`SimDisk::fork`] copies it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a simulated disk. After a crash all its calls fail.
pub struct SimFile {
    state: Arc<Mutex<State>>,
    inode: usize,
    epoch: u64,
}

/// The guard of a locked file.
pub struct SimLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    epoch: u64,
}

/// The state after one operation of a recorded run.
pub struct Moment {
    /// The number of operations before it.
    pub operations: u64,
    /// A description of the last operation.
    pub after: String,
    /// A copy of the disk.
    pub disk: SimDisk,
}

impl SimDisk {
    /// An empty disk with a root directory.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// An independent copy, without recording, faults or open handles.
    pub fn fork(&self) -> SimDisk {
        let mut state = self.state.lock().without_recording();
        state.forget_process();
        SimDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Loses power. `choose` is called with 2 for every unsynced change of a name: 1 keeps it. It
    /// is called with 3 for every unsynced sector: 0 loses it, 1 keeps it, 2 tears it, with further
    /// calls for byte and direction. Open files and locks become invalid; faults are disarmed.
    pub fn crash(&self, choose: Chooser<'_>) {
        self.state.lock().crash(choose);
    }

    /// Loses power. The bits of `kept` are the choices, in order; the rest is lost. No sector is
    /// torn.
    pub fn crash_keeping(&self, mut kept: u64) {
        self.crash(&mut |_| {
            let bit = kept & 1;
            kept >>= 1;
            bit
        });
    }

    /// The number of choices of a [`SimDisk::crash`], not counting torn sectors.
    pub fn unsynced(&self) -> usize {
        let state = self.state.lock();
        let sectors: usize = state.inodes.values().map(|inode| inode.stale.len()).sum();
        state.pending.len() + sectors
    }

    /// Ends the process but not the machine: written data stays, unsynced.
    pub fn kill(&self) {
        self.state.lock().forget_process();
    }

    /// Starts to record: keeps a copy of the disk now and after every changing operation.
    pub fn record(&self) {
        let mut state = self.state.lock();
        state.recording = Some(Vec::new());
        state.note("start");
    }

    /// The recorded moments, in order; ends the recording.
    pub fn moments(&self) -> Vec<Moment> {
        let moments = self.state.lock().recording.take().unwrap_or_default();
        let moment = |(operations, after, state)| Moment {
            operations,
            after,
            disk: SimDisk {
                state: Arc::new(Mutex::new(state)),
            },
        };
        moments.into_iter().map(moment).collect()
    }

    /// The number of changing operations so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The number of syncs of files and directories so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Lets the `n`-th sync from now (0 is the next one) fail.
    pub fn fail_sync(&self, n: u64) {
        let mut state = self.state.lock();
        state.fail_sync = Some(state.syncs + n);
    }

    /// Lets the `n`-th write from now (0 is the next one) fail, with half of it written.
    pub fn fail_write(&self, n: u64) {
        let mut state = self.state.lock();
        state.fail_write = Some(state.writes + n);
    }

    /// Lets syncs succeed without an effect, as some drives do: a mutant that the tests must
    /// detect.
    pub fn lie(&self, lying: bool) {
        self.state.lock().lying = lying;
    }

    /// Sets the capacity of all files together, in bytes; `None`: no limit.
    pub fn limit(&self, capacity: Option<u64>) {
        self.state.lock().capacity = capacity;
    }

    /// Lets that number of creates and opens fail, for lack of a free descriptor (EMFILE).
    pub fn refuse_descriptors(&self, opens: u64) {
        self.state.lock().refused_opens = opens;
    }

    /// Flips bits of one byte, durably: bit rot.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.state.lock();
        let inode = state.inode_mut(path).expect("a file to damage");
        inode.data[usize::try_from(offset).expect("within memory")] ^= mask;
    }

    /// Truncates a file, durably.
    pub fn truncate(&self, path: &Path, size: u64) {
        let mut state = self.state.lock();
        let inode = state.inode_mut(path).expect("a file to cut");
        let size = usize::try_from(size).expect("within memory");
        inode.data.truncate(size);
        inode.durable_bytes = inode.durable_bytes.min(size);
        inode.stale.retain(|sector, _| sector * SECTOR_BYTES < size);
    }

    /// The present content of a file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        match state.names.get(path) {
            Some(Node::File(inode)) => state.inodes.get(inode).map(|inode| inode.data.clone()),
            _ => None,
        }
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state.lock();
        state.take_descriptor()?;
        state.check_parent(path)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // A name takes space too.
        state.check_capacity(1)?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        let change = NameChange {
            dir: parent(path),
            removed: None,
            added: Some((path.to_path_buf(), Node::File(inode))),
        };
        state.change(change, &format!("create {}", name_of(path)));
        Ok(SimFile {
            state: Arc::clone(&self.state),
            inode,
            epoch: state.epoch,
        })
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state.lock();
        state.take_descriptor()?;
        match state.names.get(path) {
            Some(Node::File(inode)) => Ok(SimFile {
                state: Arc::clone(&self.state),
                inode: *inode,
                epoch: state.epoch,
            }),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(parent(from), parent(to), "renames stay in their directory");
        let mut state = self.state.lock();
        let Some(Node::File(inode)) = state.names.get(from).copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let change = NameChange {
            dir: parent(from),
            removed: Some(from.to_path_buf()),
            added: Some((to.to_path_buf(), Node::File(inode))),
        };
        let what = format!("rename {} to {}", name_of(from), name_of(to));
        state.change(change, &what);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let Some(Node::File(_)) = state.names.get(path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let change = NameChange {
            dir: parent(path),
            removed: Some(path.to_path_buf()),
            added: None,
        };
        state.change(change, &format!("remove {}", name_of(path)));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.names.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange {
            dir: parent(dir),
            removed: Some(dir.to_path_buf()),
            added: None,
        };
        state.change(change, &format!("remove all of {}", name_of(dir)));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.map(|path| name_of(path)).collect();
        match dir.parent().is_none() || state.names.get(dir) == Some(&Node::Dir) {
            true => Ok(names),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_parent(dir)?;
        if state.names.contains_key(dir) {
            return Ok(());
        }
        let change = NameChange {
            dir: parent(dir),
            removed: None,
            added: Some((dir.to_path_buf(), Node::Dir)),
        };
        state.change(change, &format!("create directory {}", name_of(dir)));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.sync_fails() {
            return Err(io::Error::other("simulated failure of fsync"));
        }
        if !state.lying {
            let pending = std::mem::take(&mut state.pending);
            let (now, later) = pending.into_iter().partition(|change| change.dir == dir);
            state.pending = later;
            let now: Vec<NameChange> = now;
            for change in now {
                change.apply(&mut state.durable_names);
            }
            state.forget_unnamed();
        }
        state.done("sync directory");
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let root = path.parent().is_none();
        Ok(root || self.state.lock().names.contains_key(path))
    }

    fn lock(&self, path: &Path) -> io::Result<SimLock> {
        let mut state = self.state.lock();
        state.check_parent(path)?;
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock {
            state: Arc::clone(&self.state),
            path: path.to_path_buf(),
            epoch: state.epoch,
        })
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        match state.epoch == self.epoch && state.inodes.contains_key(&self.inode) {
            true => Ok(state),
            false => Err(gone()),
        }
    }
}

impl DiskFile for SimFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.state()?.inodes[&self.inode].data.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        let data = &state.inodes[&self.inode].data;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let from = data.get(offset..).unwrap_or_default();
        let read = from.len().min(buffer.len());
        buffer[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let size = state.inodes[&self.inode].data.len();
        state.check_capacity((offset + bytes.len()).saturating_sub(size))?;
        let fails = state.fail_write == Some(state.writes);
        state.writes += 1;
        let written = if fails { bytes.len() / 2 } else { bytes.len() };
        let inode = state.inodes.get_mut(&self.inode).ok_or_else(gone)?;
        inode.write(offset, &bytes[..written]);
        state.done(&format!("write {written} bytes at {offset}"));
        match fails {
            true => Err(io::Error::other("simulated failure of write")),
            false => Ok(()),
        }
    }

    /// Always succeeds: only one simulated process has the disk.
    fn try_lock(&self) -> io::Result<()> {
        self.state().map(drop)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fails = state.sync_fails();
        let lying = state.lying;
        let inode = state.inodes.get_mut(&self.inode).ok_or_else(gone)?;
        match fails {
            true => inode
                .stale
                .values_mut()
                .for_each(|stale| stale.dirty = false),
            false if lying => {}
            false => inode.sync(),
        }
        state.done("sync file");
        match fails {
            true => Err(io::Error::other("simulated failure of fdatasync")),
            false => Ok(()),
        }
    }
}
