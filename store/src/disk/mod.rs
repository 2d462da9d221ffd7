//! The only door to the file system: a trait, the real one, and one to crash.
//!
//! The log and the generation directories go through [`Disk`], so the simulator can run them on
//! [`sim::SimDisk`], lose power at any moment, and let syncs fail. Nothing here knows what the
//! files hold. The engines' own files (LMDB, sled) are theirs; only looking at them goes through
//! here.

mod private;
mod real;
pub mod sim;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use private::{
    create_private_dir, make_files_private, make_private, refuse_link, warn_if_open,
};
pub use real::{RealDisk, RealFile};

/// A file system, as far as a log needs one.
///
/// What a call changes is durable only after the matching sync: a file's bytes and length after
/// [`DiskFile::sync_data`], names in a directory after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Held while a directory is in use; dropping it lets others in.
    type Lock: Send + Sync + 'static;

    /// Creates an empty file that only its owner may read or write; an error when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Gives a file another name in the same directory, replacing what had it.
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

    /// Whether there is a file or directory of that name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Takes the lock file at `path`, creating it if need be; `WouldBlock` when somebody holds it.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file, read and written at positions.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file when needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's bytes and length durable. After an error nothing may be assumed of any
    /// byte written since the last success, and calling again proves nothing (fsyncgate).
    fn sync_data(&self) -> io::Result<()>;

    /// Locks it against other processes until it is closed; `WouldBlock` when it is locked already.
    fn try_lock(&self) -> io::Result<()>;
}

/// Whether the process, or the machine, has no file descriptor left: EMFILE or ENFILE.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

const ENFILE: i32 = 23;
pub(crate) const EMFILE: i32 = 24;

/// Opens a file, and again every 20 ms while there is no descriptor for it: a shortage passes, when
/// clients leave, and an error here would end the member. Warns at once and every 30 s. For threads
/// that may block.
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

/// Creates a directory and its missing parents, each of them private and durable in its own parent.
pub fn create_dir_durably(disk: &impl Disk, dir: &Path) -> io::Result<()> {
    if disk.exists(dir)? {
        return Ok(());
    }
    let parent = match dir.parent() {
        None => return disk.create_dir(dir),
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) => parent,
    };
    create_dir_durably(disk, parent)?;
    disk.create_dir(dir)?;
    disk.sync_dir(parent)
}

/// A small file, whole; `None` when there is none.
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

/// Replaces a small file whole or not at all: temporary file, sync, rename, sync of the directory.
pub fn replace_file(disk: &impl Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    if disk.exists(&temporary)? {
        disk.remove(&temporary)?;
    }
    let file = wait_for_descriptors(&temporary, || disk.create(&temporary))?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => disk.sync_dir(dir),
        None => Ok(()),
    }
}
