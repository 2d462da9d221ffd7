//! The errors of the log, each with the remedy.

use std::io;
use std::path::{Path, PathBuf};

use super::Identity;

/// Why the log cannot continue. Each of them is fatal to the member's process.
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
    /// A system call failed; after a failed write or sync the process must end.
    #[error("log: cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A durable byte has changed. No later byte can be trusted.
    #[error(
        "log: {} is damaged at byte {offset}: {cause}. Entries this member acknowledged may be \
         lost, so it must not vote with what is left: remove the member from the cluster, move \
         its data directory away, and add it again with an empty one (a cluster of one is \
         restored from a snapshot)", file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// The offset of the damage, in bytes.
        offset: u64,
        /// The kind of damage.
        cause: String,
    },
    /// A segment is missing.
    #[error(
        "log: {} has no segment {sequence:016x}, which belongs to those it has. If the file was \
         moved away, put it back; else remove the member from the cluster, move its data \
         directory away, and add it again with an empty one", dir.display()
    )]
    MissingSegment {
        /// The directory of the segments.
        dir: PathBuf,
        /// The sequence number of the missing segment.
        sequence: u64,
    },
    /// The log belongs to another member or cluster.
    #[error(
        "log: data directory belongs to cluster {} member {}, not cluster {} member {}: {} was \
         written by another member; check --data-dir, --name and --initial-cluster",
        found.cluster, found.member, expected.cluster, expected.member, file.display()
    )]
    WrongIdentity {
        /// The file with that identity.
        file: PathBuf,
        /// The identity in the file.
        found: Identity,
        /// The identity of this member.
        expected: Identity,
    },
    /// The log was written by a later version.
    #[error("log: {} has format version {version}, newer than this program's: upgrade this \
        member", file.display())]
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// Another process has locked the directory.
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
    /// Wraps the system's error about a file. After a write that failed for lack of room the file
    /// is unchanged; a sync that failed for that reason is treated like any other failed sync.
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

    /// Damage in a file at an offset.
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

    /// `Wal::prepare_next` tolerates a full disk, and used to tolerate this error as well.
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
