//! Defragmentation: the engine's rows are copied into a new generation, and the file of the old one
//! is removed. Reads and writes go on; see decision 43.
//!
//! A crash leaves either generation: the new one counts once `CURRENT` names it, which happens when
//! it is whole and durable.

mod stopped;
#[cfg(test)]
#[cfg(feature = "lmdb")]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_core::engine::{Engine, EngineError, EngineSize};
use keelson_core::state::auth::{Access, Duty};
use parking_lot::Mutex;

use crate::disk::RealDisk;
use crate::engine::generation::{Fresh, GenerationError, Generations};
use crate::engine::{self, MovableEngine};
use crate::member::fatal::Fatal;
use crate::member::recover::EngineOptions;
use crate::{Error, Store};

pub use stopped::{StoppedDefragError, defragment_stopped};

/// The rows that are copied at a time, in bytes. A flush waits while they are written and synced.
const STEP_BYTES: usize = 4 << 20;

/// The room on the disk that a copy must leave, in bytes.
const ROOM_LEFT_BYTES: u64 = 64 << 20;

/// Where a member's engine is kept.
pub(crate) struct Storage {
    pub(crate) generations: Arc<Mutex<Generations<RealDisk>>>,
    pub(crate) options: EngineOptions,
    pub(crate) fatal: Fatal,
    /// One defragmentation at a time.
    pub(crate) defragmenting: Arc<tokio::sync::Mutex<()>>,
}

impl Storage {
    pub(crate) fn new(
        generations: &Arc<Mutex<Generations<RealDisk>>>,
        options: EngineOptions,
        fatal: Fatal,
    ) -> Storage {
        Storage {
            generations: Arc::clone(generations),
            options,
            fatal,
            defragmenting: Arc::default(),
        }
    }
}

/// Why nothing was defragmented. The engine is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefragError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error(
        "keelson: a defragmentation needs {needed} bytes for its copy, and the disk has {free} \
         bytes free: free some first"
    )]
    NoRoom { needed: u64, free: u64 },
    #[error("keelson: a snapshot has replaced the database meanwhile: it is defragmented")]
    Replaced,
    #[error(
        "keelson: the database was begun by an earlier release: start a member of this release \
         on it once"
    )]
    Unmarked,
    #[error("etcdserver: server stopped")]
    Stopped,
    /// It is unknown which of both databases the next start opens, so the member must end: one of
    /// them lacks what would be written from now on.
    #[error(transparent)]
    Unknown(GenerationError),
}

impl Store {
    /// Returns the room of deleted rows to the disk. Reads and writes go on meanwhile. sled does so
    /// by itself, and an engine in memory has no file: both return at once.
    ///
    /// # Errors
    /// There is too little room on the disk for a copy; those of the disk.
    pub async fn defragment(&self) -> Result<(), Error> {
        self.authorize_now(Access::Duty(Duty::Operate)).await?;
        let turns = &self.inner.storage.defragmenting;
        let Ok(turn) = Arc::clone(turns).try_lock_owned() else {
            // The one in progress is as good as another one.
            let _ended = turns.lock().await;
            return Ok(());
        };
        if self.is_stopping() {
            return Err(Error::Stopped);
        }
        let store = self.clone();
        let copying = self.inner.shared.jobs.spawn_blocking(move || {
            // To the end, also if the client leaves.
            let _turn = turn;
            store.copy_and_log()
        });
        let copied = copying.await;
        copied.map_err(|error| Error::Internal(error.to_string()))?
    }

    fn copy_and_log(&self) -> Result<(), Error> {
        let before = self.view().size();
        let active = self.inner.metrics.defragmentations.begin();
        match self.copy_engine() {
            Ok(true) => {
                let after = self.view().size();
                log(before, after, active.succeed());
                Ok(())
            }
            Ok(false) => {
                tracing::info!("nothing to defragment: the engine uses freed space again");
                Ok(())
            }
            Err(DefragError::Stopped) => Err(Error::Stopped),
            // The new one has no room to return.
            Err(replaced @ DefragError::Replaced) => {
                tracing::info!("{replaced}");
                Ok(())
            }
            Err(DefragError::Unknown(error)) => {
                self.inner.storage.fatal.raise("defragmenting", &error);
                Err(Error::Internal(error.to_string()))
            }
            Err(error) => {
                tracing::warn!(%error, "the database is not defragmented");
                Err(Error::Internal(error.to_string()))
            }
        }
    }

    /// Blocks the thread. Returns whether there was an engine to copy.
    fn copy_engine(&self) -> Result<bool, DefragError> {
        let storage = &self.inner.storage;
        let engine = self.view().engine();
        let stopping = || self.is_stopping();
        let moved = as_movable(&*engine).map(|engine| {
            let disk = crate::disk::available_bytes;
            relocate(
                engine,
                &storage.generations,
                storage.options,
                disk,
                stopping,
            )
        });
        moved.transpose().map(|moved| moved.is_some())
    }
}

/// Defragments once after the start, if that frees as much as is configured.
pub(crate) async fn at_start(store: Store) {
    let threshold = store.config().bootstrap_defrag_bytes;
    let size = store.view().size();
    let freed = size.total_bytes.saturating_sub(size.in_use_bytes);
    if threshold != 0 && threshold <= freed {
        // Its failure is logged.
        let _ = store.defragment().await;
    }
}

fn as_movable(engine: &dyn Engine) -> Option<&MovableEngine> {
    engine.as_any()?.downcast_ref()
}

fn log(before: EngineSize, after: EngineSize, took: Duration) {
    tracing::info!(
        "current-db-size-bytes" = after.total_bytes,
        "current-db-size-bytes-diff" =
            after.total_bytes.cast_signed() - before.total_bytes.cast_signed(),
        "current-db-size-in-use-bytes" = after.in_use_bytes,
        ?took,
        "finished defragmenting directory"
    );
}

/// Moves the engine into a new generation. Blocks the thread for as long as the copy takes; half of
/// it is left to the other users of the disk.
fn relocate(
    engine: &MovableEngine,
    generations: &Mutex<Generations<RealDisk>>,
    options: EngineOptions,
    available: impl Fn(&Path) -> std::io::Result<u64>,
    stopping: impl Fn() -> bool,
) -> Result<(), DefragError> {
    let from = Some(engine.dir());
    let (began, fresh) = {
        let mut generations = generations.lock();
        // A snapshot's installation has named its engine before the view has it.
        if generations.current() != from {
            return Err(DefragError::Replaced);
        }
        let began = generations.began().ok_or(DefragError::Unmarked)?;
        generations.remove_others()?;
        (began, generations.begin()?)
    };
    let copied = copy(engine, &fresh, options, available, stopping);
    let copied = copied.and_then(|()| {
        engine.finish(|| {
            let mut generations = generations.lock();
            if generations.current() != from {
                return Err(DefragError::Replaced);
            }
            let switched = generations.switch(&fresh, began);
            switched.map_err(DefragError::Unknown)
        })
    });
    if let Err(error) = copied {
        engine.give_up();
        // At the latest the next start removes it.
        let _ = generations.lock().discard(&fresh);
        return Err(error);
    }
    // Readers that still have the old engine open keep it until they finish.
    if let Err(error) = generations.lock().remove_others() {
        tracing::warn!(%error, "the old database is removed later");
    }
    Ok(())
}

fn copy(
    engine: &MovableEngine,
    fresh: &Fresh,
    options: EngineOptions,
    available: impl Fn(&Path) -> std::io::Result<u64>,
    stopping: impl Fn() -> bool,
) -> Result<(), DefragError> {
    let require = |needed: u64| {
        let free = available(&fresh.dir);
        let free = free.map_err(|error| {
            EngineError(format!("the room at {}: {error}", fresh.dir.display()))
        })?;
        match free < needed {
            true => Err(DefragError::NoRoom { needed, free }),
            false => Ok(()),
        }
    };
    require(engine.size().in_use_bytes.saturating_add(ROOM_LEFT_BYTES))?;
    let to = engine::open_unmovable(options.kind, &fresh.dir, options.map_bytes)?;
    engine.begin(to, fresh.dir.clone());
    loop {
        let began = Instant::now();
        if !engine.copy_step(STEP_BYTES)? {
            return Ok(());
        }
        if stopping() {
            return Err(DefragError::Stopped);
        }
        // The log and the engine fill the same disk meanwhile, and need the room more.
        require(ROOM_LEFT_BYTES)?;
        std::thread::sleep(began.elapsed());
    }
}
