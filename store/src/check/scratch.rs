//! The copy of an engine that changes its files when it is opened.
//!
//! What fails where the copy is made is no damage of what is copied.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{self, Disk, DiskFile, ReadOnlyDisk, RealDisk};

/// Makes an empty directory for a copy. It is called if one is needed.
pub type Scratch<'a> = &'a mut dyn FnMut() -> io::Result<PathBuf>;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// The bytes that an engine may add to a copy when it is opened.
const ROOM_BYTES: usize = 1 << 20;

/// Copies the files of a directory, and of the directories in it.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(dir) = waiting.pop() {
        let (source, target) = (from.join(&dir), to.join(&dir));
        let failed = |error| explain(&source, error);
        RealDisk.create_dir(&target).map_err(failed)?;
        for name in ReadOnlyDisk.list(&source).map_err(failed)? {
            let path = source.join(&name);
            match path.is_dir() {
                true => waiting.push(dir.join(name)),
                false => {
                    copy_file(&path, &target.join(name)).map_err(|error| explain(&path, error))?
                }
            }
        }
    }
    Ok(())
}

fn explain(path: &Path, error: io::Error) -> io::Error {
    let text = format!("{} cannot be copied: {error}", path.display());
    io::Error::new(error.kind(), text)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (ReadOnlyDisk.open(from)?, RealDisk.create(to)?);
    let mut part = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = from.read_at(at, &mut part)?;
        if read == 0 {
            return Ok(());
        }
        to.write_at(at, &part[..read])?;
        at += read as u64;
    }
}

/// Whether the disk of a copy has room for what an engine may add to it.
pub(super) fn has_room(dir: &Path) -> io::Result<()> {
    let path = dir.join("room");
    let written = RealDisk.create(&path).and_then(|file| {
        file.write_at(0, &vec![0; ROOM_BYTES])?;
        file.sync_data()
    });
    disk::remove_file(&RealDisk, &path)?;
    written.map_err(|error| {
        let text = format!("{} has no room for it: {error}", dir.display());
        io::Error::new(error.kind(), text)
    })
}
