//! Scheduled snapshots in a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use keelson_proto::etcdserverpb::SnapshotResponse;
use keelson_store::Store;
use keelson_store::internals::disk::{self, Disk, DiskFile, ReadOnlyFile, RealDisk};
use tokio::runtime::Handle;
use tokio_stream::{Stream, StreamExt};

use super::{BackupError, Saved, name};

/// The name of a snapshot that is not whole.
pub(super) const PART: &str = "snapshot.part";

/// Bytes that are made durable at once. A stop is not seen meanwhile, and waits 5 s at most.
const SYNC_BYTES: u64 = 64 << 20;

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

/// Saves a snapshot. Once `stop` ends, what was written is removed, and
/// [`BackupError::Stopped`] returned.
pub(super) async fn save<D: Disk>(
    disk: D,
    store: &Store,
    dir: &Path,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Saved, BackupError> {
    let (store, dir, runtime) = (store.clone(), dir.to_owned(), Handle::current());
    let saved = tokio::task::spawn_blocking(move || {
        let pieces = Pieces {
            runtime,
            snapshot: Box::pin(store.snapshot()),
            stop: Box::pin(stop),
        };
        let part = dir.join(PART);
        let saved = write(&disk, pieces, &dir, &part);
        if saved.is_err() {
            let _ = disk.remove(&part);
        }
        saved
    });
    let (path, bytes) = saved.await??;
    let place = path.display().to_string();
    Ok(Saved { place, bytes })
}

/// A snapshot for a thread that may block.
struct Pieces<S, F> {
    runtime: Handle,
    snapshot: S,
    stop: F,
}

impl<S, F> Pieces<S, F>
where
    S: Stream<Item = Result<SnapshotResponse, keelson_store::Error>> + Unpin,
    F: Future<Output = ()> + Unpin,
{
    /// The next piece; `None` after the last. A stop comes before either.
    fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Pieces {
            runtime,
            snapshot,
            stop,
        } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop => Err(BackupError::Stopped),
                piece = snapshot.next() => Ok(piece.transpose()?.map(|piece| piece.blob)),
            }
        })
    }
}

/// Writes a snapshot; returns its path and its size. Blocks the thread.
fn write<S, F>(
    disk: &impl Disk,
    mut pieces: Pieces<S, F>,
    dir: &Path,
    part: &Path,
) -> Result<(PathBuf, u64), BackupError>
where
    S: Stream<Item = Result<SnapshotResponse, keelson_store::Error>> + Unpin,
    F: Future<Output = ()> + Unpin,
{
    disk::create_dir_durably(disk, dir)?;
    if disk.exists(part)? {
        disk.remove(part)?;
    }
    let file = disk.create(part)?;
    let (mut at, mut synced) = (0, 0);
    while let Some(blob) = pieces.next()? {
        file.write_at(at, &blob)?;
        at += blob.len() as u64;
        if SYNC_BYTES <= at - synced {
            file.sync_data()?;
            synced = at;
        }
    }
    file.sync_data()?;
    let path = dir.join(name::now());
    disk.rename(part, &path)?;
    disk.sync_dir(dir)?;
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
