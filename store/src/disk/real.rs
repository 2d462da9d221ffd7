//! The real disk, through `std::fs`.
//!
//! New files are accessible only to their owner, regardless of the umask. Files are not opened
//! through symbolic links: a link in a member's directory was not created by the member.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::{Disk, DiskFile, wait_for_descriptors};

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file of the machine.
#[derive(Debug)]
pub struct RealFile(File);

/// A file that is only read: one that an operator names, so a link to it is followed.
#[derive(Debug)]
pub struct ReadOnlyFile(File);

impl ReadOnlyFile {
    /// Opens an existing file.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<ReadOnlyFile> {
        File::open(path).map(ReadOnlyFile)
    }

    /// Locks the file for readers while it is open: as bbolt does, by `flock`, and as etcd locks
    /// its log, by `fcntl`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process has it locked for writing.
    pub fn try_lock_shared(&self) -> io::Result<()> {
        match self.0.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match rustix::fs::fcntl_lock(&self.0, FlockOperation::NonBlockingLockShared) {
            Err(Errno::AGAIN | Errno::ACCESS) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other?),
        }
    }

    /// Reads exactly these bytes.
    ///
    /// # Errors
    /// The system's, and an unexpected end.
    pub fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    /// The length, in bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// When it was last written.
    ///
    /// # Errors
    /// The system's.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.0.metadata()?.modified()
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = File;

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        private_options().create_new(true).open(path).map(RealFile)
    }

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        private_options().open(path).map(RealFile)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        wait_for_descriptors(dir, || fs::remove_dir_all(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = wait_for_descriptors(dir, || fs::read_dir(dir))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>();
        names.map(|mut names| {
            names.sort();
            names
        })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        wait_for_descriptors(dir, || File::open(dir))?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    /// The lock must be of the file that has the name now: a lock of a file that was removed
    /// meanwhile excludes no other process.
    fn lock(&self, path: &Path) -> io::Result<File> {
        for _ in 0..LOCK_TRIES {
            let open = || private_options().create(true).open(path);
            let file = wait_for_descriptors(path, open)?;
            try_lock(&file)?;
            let locked = file.metadata()?;
            match fs::symlink_metadata(path) {
                Ok(named) if named.ino() == locked.ino() && named.dev() == locked.dev() => {
                    return Ok(file);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(
            "the lock file was replaced at each attempt to lock it",
        ))
    }
}

/// The lock of a directory, until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "the lock goes with the file")] File);

/// Locks an existing directory itself, without a file in it. On a file system that cannot lock
/// directories, as NFS, it logs a warning and succeeds.
///
/// # Errors
/// `WouldBlock` if another process has the lock; the file system's otherwise.
pub fn lock_dir(dir: &Path) -> io::Result<DirectoryLock> {
    let directory = File::open(dir)?;
    match is_locked(directory.try_lock(), dir) {
        true => Ok(DirectoryLock(directory)),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Whether this process has the lock, or the file system cannot lock directories.
fn is_locked(locked: Result<(), TryLockError>, dir: &Path) -> bool {
    if let Err(TryLockError::Error(error)) = &locked {
        tracing::warn!(
            dir = %dir.display(), %error,
            "the directory cannot be locked; make sure that no other process uses it"
        );
    }
    !matches!(locked, Err(TryLockError::WouldBlock))
}

/// The attempts to lock a file that is removed and created again at the same time.
const LOCK_TRIES: usize = 100;

/// For reading and writing, with access for the owner only, and not through a symbolic link.
fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn try_lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl DiskFile for RealFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .0
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<()> {
        try_lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NFS refuses with EBADF to lock what is not open for writing, and a directory cannot be.
    #[test]
    fn a_directory_that_cannot_be_locked_is_used_all_the_same() {
        let dir = Path::new("proxy");
        let refused = io::Error::from_raw_os_error(9);
        assert!(is_locked(Err(TryLockError::Error(refused)), dir));
        assert!(is_locked(Ok(()), dir));
        assert!(!is_locked(Err(TryLockError::WouldBlock), dir));
    }
}
