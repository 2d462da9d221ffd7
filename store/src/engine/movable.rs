//! An engine whose rows move to another one, piece by piece, while it is read and written.
//!
//! The move goes through the tables in key order. A batch is written to the present engine and, in
//! so far as its rows have been copied already, to the new one; the rest of it is copied when the
//! move gets there. So nothing has to be remembered for later, and at the end both hold the same.

use std::any::Any;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::engine::{Change, Engine, EngineError, EngineSize, GetRow, Table, WriteBatch};
use parking_lot::{Mutex, MutexGuard, RwLock};

/// An engine that can be replaced by a copy.
pub struct MovableEngine {
    current: RwLock<Arc<dyn Engine>>,
    /// Where the engine is.
    dir: Mutex<PathBuf>,
    /// Locked while a batch is written and while a piece is copied.
    copying: Mutex<Option<Copying>>,
}

/// A move in progress.
struct Copying {
    to: Arc<dyn Engine>,
    dir: PathBuf,
    /// The last copied row; nothing before the first, and [`Copying::is_whole`] after the last.
    copied: Option<(Table, Bytes)>,
    is_whole: bool,
    /// Why the new engine lacks a batch, if it does.
    failed: Option<EngineError>,
}

impl MovableEngine {
    /// An engine in that directory.
    pub fn new(engine: Arc<dyn Engine>, dir: PathBuf) -> MovableEngine {
        MovableEngine {
            current: RwLock::new(engine),
            dir: Mutex::new(dir),
            copying: Mutex::new(None),
        }
    }

    /// The directory of the engine.
    pub fn dir(&self) -> PathBuf {
        self.dir.lock().clone()
    }

    /// Begins a move to an empty engine in that directory. One that was in progress is given up.
    pub fn begin(&self, to: Arc<dyn Engine>, dir: PathBuf) {
        *self.copying.lock() = Some(Copying {
            to,
            dir,
            copied: None,
            is_whole: false,
            failed: None,
        });
    }

    /// Gives the move up.
    pub fn give_up(&self) {
        *self.copying.lock() = None;
    }

    /// Copies the next rows, about that many bytes. Returns whether more is left. A batch that
    /// comes meanwhile waits.
    ///
    /// # Errors
    /// Those of both engines. The move should then be given up.
    pub fn copy_step(&self, bytes_max: usize) -> Result<bool, EngineError> {
        let mut copying = self.copying.lock();
        let more = match &mut *copying {
            None => Ok(false),
            Some(copying) => copying.step(&**self.current.read(), bytes_max),
        };
        // The writer of batches has its turn.
        MutexGuard::unlock_fair(copying);
        more
    }

    /// Ends the move: `switch` makes the copy the one that the next start opens, and then it is the
    /// engine. Batches wait meanwhile. Readers that have the old engine keep it.
    ///
    /// # Errors
    /// The copy is not whole, or `switch` failed; the engine is then as before.
    pub fn finish<E: From<EngineError>>(
        &self,
        switch: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut copying = self.copying.lock();
        let Some(done) = copying.take() else {
            return Err(EngineError("no copy was begun".to_owned()).into());
        };
        match done {
            Copying {
                failed: Some(error),
                ..
            } => Err(error.into()),
            Copying {
                is_whole: false, ..
            } => Err(EngineError("the copy is not whole".to_owned()).into()),
            Copying { to, dir, .. } => {
                switch()?;
                *self.current.write() = to;
                *self.dir.lock() = dir;
                Ok(())
            }
        }
    }

    fn current(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.current.read())
    }
}

impl Copying {
    fn step(&mut self, from: &dyn Engine, bytes_max: usize) -> Result<bool, EngineError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.is_whole {
            // What is written from now on is followed. A further step would pass over deletions.
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        let mut left = bytes_max;
        let begin = self.copied.clone();
        for table in Table::ALL {
            let after = match &begin {
                Some((of, _)) if table < *of => continue,
                Some((of, key)) if *of == table => Bound::Excluded(&key[..]),
                _ => Bound::Unbounded,
            };
            from.range(table, after, Bound::Unbounded, &mut |key, value| {
                left = left.saturating_sub(key.len() + value.len());
                let key = Bytes::copy_from_slice(key);
                let row = (table, key);
                self.copied = Some(row.clone());
                let value = Bytes::copy_from_slice(value);
                batch.changes.insert(row, Change::Put(value));
                left != 0
            })?;
            if left == 0 {
                break;
            }
        }
        self.to.write(&batch)?;
        self.is_whole = left != 0;
        Ok(!self.is_whole)
    }

    /// Writes those rows of a batch that have been copied.
    fn follow(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        let changes = match (&self.copied, self.is_whole) {
            (_, true) => batch.changes.clone(),
            (None, false) => return Ok(()),
            (Some(copied), false) => {
                let copied = batch.changes.range(..=copied.clone());
                let copied = copied.map(|(row, change)| (row.clone(), change.clone()));
                copied.collect()
            }
        };
        match changes.is_empty() {
            true => Ok(()),
            false => self.to.write(&WriteBatch { changes }),
        }
    }
}

impl Engine for MovableEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.current.read().get(table, key)
    }

    fn get_many(&self, read: &mut dyn FnMut(&GetRow<'_>)) -> Result<(), EngineError> {
        self.current().get_many(read)
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        // Not under the lock: a long one would hold the end of a move, and then the other readers.
        self.current().range(table, from, to, visit)
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut copying = self.copying.lock();
        self.current.read().write(batch)?;
        // An error of the copy, such as a full disk, ends the move and not the member.
        if let Some(copying) = &mut *copying
            && copying.failed.is_none()
        {
            copying.failed = copying.follow(batch).err();
        }
        Ok(())
    }

    fn size(&self) -> EngineSize {
        self.current.read().size()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
