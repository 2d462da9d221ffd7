//! Files opened for reading only: each operation that would change one fails.

use std::fs;
use std::io;
use std::path::Path;

use super::{Disk, DiskFile, ReadOnlyFile};

/// The file system of the machine, without any change.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyDisk;

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    type File = ReadOnlyFile;
    type Lock = ReadOnlyFile;

    fn create(&self, _: &Path) -> io::Result<ReadOnlyFile> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<ReadOnlyFile> {
        ReadOnlyFile::open(path)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        super::RealDisk.list(dir)
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    /// A lock for readers, of an existing file: writers have it alone.
    fn lock(&self, path: &Path) -> io::Result<ReadOnlyFile> {
        let file = ReadOnlyFile::open(path)?;
        file.try_lock_shared()?;
        Ok(file)
    }
}

impl DiskFile for ReadOnlyFile {
    fn size_bytes(&self) -> io::Result<u64> {
        ReadOnlyFile::size_bytes(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = ReadOnlyFile::size_bytes(self)?.saturating_sub(offset);
        let bytes = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.read_exact_at(offset, &mut buffer[..bytes])?;
        Ok(bytes)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }

    fn try_lock(&self) -> io::Result<()> {
        self.try_lock_shared()
    }
}
