//! The file system interface: a trait, its implementation on the real disk, and a simulated disk.
//!
//! The log and the generation directories use [`Disk`] for all their IO. So the simulator can run
//! them on [`sim::SimDisk`], simulate power failures at any moment, and let syncs fail. The content
//! of files is opaque here. The engines (LMDB, sled) do the IO of their own files; Keelson only
//! inspects those through this module.

mod private;
mod read_only;
mod real;
pub mod sim;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use private::{
    create_private_dir, make_files_private, make_private, refuse_link, warn_if_open,
};
pub use read_only::ReadOnlyDisk;
pub use real::{DirectoryLock, ReadOnlyFile, RealDisk, RealFile, lock_dir};

/// The room on the device of a directory, in bytes.
///
/// # Errors
/// The system's.
pub fn available_bytes(dir: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(dir)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// The file system operations that a log needs.
///
/// What a call changes is durable only after the matching sync: a file's bytes and length after
/// [`DiskFile::sync_data`], names in a directory after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// The guard of a directory lock; dropping it releases the lock.
    type Lock: Send + Sync + 'static;

    /// Creates an empty file that only its owner may read or write; an error if the name exists.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Renames a file within its directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and everything in it.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates one directory that only its owner may enter; no error when it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Locks the lock file at `path`, which is created if needed; `WouldBlock` if it is locked.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file, read and written at positions.
pub trait DiskFile: Send + Sync + 'static {
    /// The length of the file, in bytes.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on. Returns fewer bytes only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file when needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's bytes and length durable. After an error every byte written since the
    /// last success is in doubt, and a further call proves nothing (fsyncgate).
    fn sync_data(&self) -> io::Result<()>;

    /// Locks the file against other processes until it is closed; `WouldBlock` if it is locked.
    fn try_lock(&self) -> io::Result<()>;
}

/// Whether the process, or the machine, has no file descriptor left: EMFILE or ENFILE.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

const ENFILE: i32 = 23;
pub(crate) const EMFILE: i32 = 24;

/// Opens a file, and retries every 20 ms while no descriptor is free: the shortage ends when
/// clients disconnect, and an error would end the member. Warns at once and every 30 s. For
/// threads that may block.
pub fn wait_for_descriptors<T>(
    path: &Path,
    mut open: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    const PAUSE: Duration = Duration::from_millis(20);
    const WARN_EVERY: u64 = 1500;
    let mut tries = 0u64;
    loop {
        match open() {
            Err(error) if is_out_of_descriptors(&error) => {
                if tries.is_multiple_of(WARN_EVERY) {
                    tracing::warn!(path = %path.display(), %error,
                        "waiting for a file descriptor; raise the limit of open files (nofile)");
                }
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// Creates a directory and its missing parents. Each is private, and durable in its own parent. A
/// directory that exists may have been created by a process that ended before it was durable; its
/// parent is synced as well, unless this user cannot read it.
pub fn create_dir_durably(disk: &impl Disk, dir: &Path) -> io::Result<()> {
    if !disk.exists(dir)? {
        return create_missing(disk, dir);
    }
    match parent_of(dir).map(|parent| disk.sync_dir(parent)) {
        Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

fn create_missing(disk: &impl Disk, dir: &Path) -> io::Result<()> {
    if disk.exists(dir)? {
        return Ok(());
    }
    let Some(parent) = parent_of(dir) else {
        return disk.create_dir(dir);
    };
    create_missing(disk, parent)?;
    disk.create_dir(dir)?;
    disk.sync_dir(parent)
}

/// The parent; the working directory for a bare name, nothing for the root.
fn parent_of(path: &Path) -> Option<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
        parent => parent,
    }
}

/// Reads a small file; `None` if it does not exist.
pub fn read_file(disk: &impl Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match wait_for_descriptors(path, || disk.open(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.size_bytes()?).map_err(io::Error::other)?];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Replaces a small file atomically: temporary file, sync, rename, sync of the directory.
pub fn replace_file(disk: &impl Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    // A file left from before may be a link, or readable for others.
    remove_file(disk, &temporary)?;
    let file = wait_for_descriptors(&temporary, || disk.create(&temporary))?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    match parent_of(path) {
        Some(dir) => disk.sync_dir(dir),
        None => Ok(()),
    }
}

/// Removes a file, if it exists.
pub fn remove_file(disk: &impl Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a directory and everything in it, durably.
pub fn remove_dir_durably(disk: &impl Disk, dir: &Path) -> io::Result<()> {
    disk.remove_dir_all(dir)?;
    parent_of(dir).map_or(Ok(()), |parent| disk.sync_dir(parent))
}
