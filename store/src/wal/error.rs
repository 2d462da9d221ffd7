//! What can go wrong with the log, in words an operator can act on.

use std::io;
use std::path::{Path, PathBuf};

use super::Identity;

/// Why the log cannot go on. Every one of them is fatal to the member's process.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk is full.
    #[error(
        "log: no space left on the device that holds {}; free some or enlarge it, then start \
         this member again: nothing that was acknowledged is lost", path.display()
    )]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The system refused; after a failed write or sync the process must end.
    #[error("log: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A byte that was durable is not what it was. Nothing after it can be trusted.
    #[error(
        "log: {} is damaged at byte {offset}: {cause}. Entries this member acknowledged may be \
         lost, so it must not vote with what is left: remove the member from the cluster, move \
         its data directory away, and add it again with an empty one (a cluster of one is \
         restored from a snapshot)", file.display()
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        cause: String,
    },
    /// A segment is gone.
    #[error(
        "log: {} has no segment {sequence:016x}, which belongs to those it has. If the file was moved away, \
         put it back; else remove the member from the cluster, move its data directory away, and \
         add it again with an empty one", dir.display()
    )]
    MissingSegment {
        /// Where the segments are.
        dir: PathBuf,
        /// The missing one.
        sequence: u64,
    },
    /// Somebody else's log.
    #[error(
        "log: data directory belongs to cluster {} member {}, not cluster {} member {}: {} was \
         written by another member; check --data-dir, --name and --initial-cluster",
        found.cluster, found.member, expected.cluster, expected.member, file.display()
    )]
    WrongIdentity {
        /// Which file says so.
        file: PathBuf,
        /// Whose log it is.
        found: Identity,
        /// Who asks.
        expected: Identity,
    },
    /// Written by a version that came later.
    #[error("log: {} has format version {version}, newer than this program's: upgrade this member", file.display())]
    UnknownVersion {
        /// Which file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Another process uses the directory.
    #[error("log: {} is in use by another process: is this member running twice?", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// An earlier error ended this log.
    #[error("log: stopped by an earlier error: {0}")]
    Poisoned(String),
}

impl WalError {
    /// Wraps what the system said about a file. Without room for a write the file is as it was before;
    /// a sync that fails for that reason has failed like any other.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if action != "sync" => {
                WalError::DiskFull {
                    path: path.to_path_buf(),
                }
            }
            _ => WalError::Io {
                action,
                path: path.to_path_buf(),
                source,
            },
        }
    }

    /// Damage to a file, at a place.
    pub(super) fn damaged(file: &Path, offset: u64, cause: impl Into<String>) -> WalError {
        WalError::Damaged {
            file: file.to_path_buf(),
            offset,
            cause: cause.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Wal::prepare_next` survives a full disk, and survived this one too.
    #[test]
    fn a_sync_that_fails_for_want_of_room_has_failed() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let path = Path::new("spare");
        let write = WalError::io("write", path)(full());
        assert!(matches!(write, WalError::DiskFull { .. }));
        let sync = WalError::io("sync", path)(full());
        assert!(matches!(sync, WalError::Io { .. }));
    }
}
