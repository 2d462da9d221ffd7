//! Scheduled snapshots in a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use keelson_store::Store;
use keelson_store::internals::disk::{self, Disk, DiskFile, ReadOnlyFile, RealDisk};
use tokio::runtime::Handle;
use tokio_stream::StreamExt;

use super::{BackupError, Saved, name};

/// The name of a snapshot that is not whole.
pub(super) const PART: &str = "snapshot.part";

/// The time of the newest snapshot, by its file. Blocks the thread.
pub(super) fn newest(dir: &Path) -> io::Result<Option<SystemTime>> {
    if !RealDisk.exists(dir)? {
        return Ok(None);
    }
    let names = RealDisk.list(dir)?;
    let Some(newest) = name::newest(names.iter().map(String::as_str)) else {
        return Ok(None);
    };
    ReadOnlyFile::open(&dir.join(newest))?.modified().map(Some)
}

/// Saves a snapshot.
pub(super) async fn save(store: &Store, dir: &Path) -> Result<Saved, BackupError> {
    let (store, dir, runtime) = (store.clone(), dir.to_owned(), Handle::current());
    let saved = tokio::task::spawn_blocking(move || {
        let part = dir.join(PART);
        let saved = write(&store, &dir, &part, &runtime);
        if saved.is_err() {
            let _ = RealDisk.remove(&part);
        }
        saved
    });
    let (path, bytes) = saved.await??;
    let place = path.display().to_string();
    Ok(Saved { place, bytes })
}

/// Writes a snapshot; returns its path and its size. Blocks the thread.
fn write(
    store: &Store,
    dir: &Path,
    part: &Path,
    runtime: &Handle,
) -> Result<(PathBuf, u64), BackupError> {
    disk::create_dir_durably(&RealDisk, dir)?;
    if RealDisk.exists(part)? {
        RealDisk.remove(part)?;
    }
    let file = RealDisk.create(part)?;
    let mut pieces = Box::pin(store.snapshot());
    let mut at = 0;
    while let Some(piece) = runtime.block_on(pieces.next()) {
        let blob = piece?.blob;
        file.write_at(at, &blob)?;
        at += blob.len() as u64;
    }
    file.sync_data()?;
    let path = dir.join(name::now());
    RealDisk.rename(part, &path)?;
    RealDisk.sync_dir(dir)?;
    Ok((path, at))
}

/// Removes the oldest snapshots, so that `keep` are left. Blocks the thread.
pub(super) fn prune(dir: &Path, keep: usize) -> io::Result<()> {
    let names = RealDisk.list(dir)?;
    for name in name::superfluous(names.iter().map(String::as_str), keep) {
        RealDisk.remove(&dir.join(name))?;
    }
    Ok(())
}
