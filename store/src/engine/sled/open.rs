//! Opens sled, whose open may fail permanently, panic or hang on damaged files.
//!
//! The open runs in a thread of its own, with a timeout. A corrupt `snap.*` (a cache of sled; its
//! log is authoritative) is deleted, and the open is repeated once. A panic becomes an error or,
//! where panics abort, a line on stderr with the remedy.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use keelson_core::engine::EngineError;

use crate::disk::{self, Disk, RealDisk};

pub(super) const REMEDY: &str = "sled cannot repair it; move the member's snap directory away and \
     start it again to rebuild it from its log, if that still reaches back to its founding; else \
     remove the member from the cluster and add it \
     again with an empty data directory";

/// The size of sled's page cache, in bytes: small, because the state machine has a cache of its
/// own.
const CACHE_BYTES: u64 = 64 << 20;
/// The timeout of an open. Without its snapshot sled reads its whole log: 6 M rows took seconds.
const OPEN_WAIT: Duration = Duration::from_secs(300);
/// The timeout for a database that is in use, and the interval of the attempts.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_LOOK: Duration = Duration::from_millis(20);

pub(super) fn open(dir: &Path) -> Result<::sled::Db, EngineError> {
    let fail = |error| EngineError(format!("cannot open {}: {error}", dir.display()));
    disk::create_dir_durably(&RealDisk, dir).map_err(fail)?;
    for name in RealDisk.list(dir).map_err(fail)? {
        disk::refuse_link(&dir.join(name)).map_err(fail)?;
    }
    match attempt(dir)? {
        Ok(db) => Ok(db),
        Err(::sled::Error::Corruption { .. }) => {
            tracing::warn!(dir = %dir.display(), "sled's page snapshot is damaged: deleting it");
            remove_snapshots(dir).map_err(fail)?;
            attempt(dir)?.map_err(super::explain)
        }
        Err(error) => Err(super::explain(error)),
    }
}

fn remove_snapshots(dir: &Path) -> std::io::Result<()> {
    for name in RealDisk.list(dir)? {
        if name.starts_with("snap.") {
            RealDisk.remove(&dir.join(name))?;
        }
    }
    RealDisk.sync_dir(dir)
}

/// One attempt; the outer error is a panic or a timeout.
fn attempt(dir: &Path) -> Result<::sled::Result<::sled::Db>, EngineError> {
    let config = ::sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let (answer, answered) = mpsc::channel();
    explain_aborts(dir);
    let opening = std::thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || {
            // After the timeout the receiver is gone.
            let _ = answer.send(unlocked(&config));
        });
    opening.map_err(|error| EngineError(format!("cannot start a thread: {error}")))?;
    let dir = dir.display();
    match answered.recv_timeout(OPEN_WAIT) {
        Ok(opened) => Ok(opened),
        // The thread ended without an answer: it panicked.
        Err(RecvTimeoutError::Disconnected) => {
            let cause = "is damaged (sled panicked)";
            Err(EngineError(format!("{dir} {cause}: {REMEDY}")))
        }
        Err(RecvTimeoutError::Timeout) => Err(EngineError(format!(
            "sled does not answer for {dir}: {REMEDY}"
        ))),
    }
}

/// Opens the database once its lock is free: sled's own threads hold the lock for a moment after
/// an engine of this process is dropped.
fn unlocked(config: &::sled::Config) -> ::sled::Result<::sled::Db> {
    let began = Instant::now();
    loop {
        match config.open() {
            Err(::sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && began.elapsed() < LOCK_WAIT =>
            {
                std::thread::sleep(LOCK_LOOK);
            }
            opened => return opened,
        }
    }
}

const THREAD: &str = "keelson-sled-open";

/// Where a panic aborts the process (release builds), no error can be returned, so the text is
/// printed first.
#[cfg(panic = "abort")]
fn explain_aborts(dir: &Path) {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    let dir = dir.display().to_string();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some(THREAD) {
                tracing::error!("{dir} is damaged (sled panics): {REMEDY}");
            }
            before(panic);
        }));
    });
}

#[cfg(not(panic = "abort"))]
fn explain_aborts(_dir: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_let_go_is_waited_for_and_one_that_is_not_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path()).unwrap();
        held.insert("key", "value").unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(refused.0.contains("lock"), "{refused}");
        let soon = std::thread::spawn(move || {
            std::thread::sleep(LOCK_LOOK * 5);
            drop(held);
        });
        let again = open(dir.path()).unwrap();
        assert_eq!(again.get("key").unwrap().unwrap(), "value");
        soon.join().unwrap();
    }
}
