//! Reads every page, row and record of a data directory or a snapshot, and lists what is damaged.
//! Nothing is written.

mod directory;
mod file;
mod scratch;
#[cfg(test)]
#[cfg(all(feature = "lmdb", feature = "sled"))]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use directory::check_directory;
pub use file::check_file;
pub use scratch::Scratch;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is there, for people: one line each.
    pub found: Vec<String>,
    /// What is damaged: one line each.
    pub damaged: Vec<String>,
    /// What could not be read, and why: one line each. It may be whole.
    pub unchecked: Vec<String>,
}

impl CheckReport {
    fn note<T, E: std::fmt::Display>(
        &mut self,
        of: &str,
        result: Result<T, E>,
        found: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.found.push(format!("{of}: {}", found(&value)));
                Some(value)
            }
            Err(error) => {
                self.damaged.push(format!("{of}: {error}"));
                None
            }
        }
    }
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is an etcd's.
    #[error(
        "{} is a data directory of etcd, which this does not check: `keelson import {}` reads all \
         of it and makes a data directory of Keelson", .0.display(), .0.display()
    )]
    Etcds(PathBuf),
    /// A member runs on it.
    #[error("{} is in use: stop the member first, or check one of its snapshots", .0.display())]
    InUse(PathBuf),
    /// It has nothing of Keelson.
    #[error("{} has no log and no state of a member of Keelson", .0.display())]
    Nothing(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
}

impl CheckError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> CheckError {
        let path = path.to_owned();
        move |error| CheckError::Io { path, error }
    }
}
