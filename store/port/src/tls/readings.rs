//! How files were read that are read again when they change.

use std::path::PathBuf;
use std::time::SystemTime;

/// The readings of files that are used together, since the start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReadings {
    /// What they are: "TLS files".
    pub what: &'static str,
    /// The files.
    pub paths: Vec<PathBuf>,
    /// When all of them were read and used last.
    pub succeeded: SystemTime,
    /// How often some could not be used, whose former ones stayed in use.
    pub failures: u64,
    /// Whether the last reading succeeded.
    pub is_current: bool,
}

impl FileReadings {
    /// The first reading, which succeeds now.
    pub(super) fn first(what: &'static str, paths: Vec<PathBuf>) -> FileReadings {
        FileReadings {
            what,
            paths,
            succeeded: SystemTime::now(),
            failures: 0,
            is_current: true,
        }
    }

    /// Notes a reading.
    pub(super) fn note(&mut self, succeeded: bool) {
        self.is_current = succeeded;
        match succeeded {
            true => self.succeeded = SystemTime::now(),
            false => self.failures += 1,
        }
    }

    /// Takes the readings of another user of the same files into account.
    fn join(&mut self, other: &FileReadings) {
        self.succeeded = self.succeeded.min(other.succeeded);
        self.failures += other.failures;
        self.is_current &= other.is_current;
    }
}

/// One entry for each set of files: several ports may use the same.
pub(super) fn joined(mut all: Vec<FileReadings>) -> Vec<FileReadings> {
    all.sort_by(|one, other| (one.what, &one.paths).cmp(&(other.what, &other.paths)));
    all.dedup_by(|later, one| {
        let is_same = (one.what, &one.paths) == (later.what, &later.paths);
        if is_same {
            one.join(later);
        }
        is_same
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_that_cannot_use_the_files_is_seen() {
        let of = |path: &str| FileReadings::first("TLS files", vec![path.into()]);
        let (mut failed, good) = (of("a.pem"), of("a.pem"));
        failed.note(false);
        let all = joined(vec![good.clone(), of("b.pem"), failed.clone()]);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].failures, all[0].is_current), (1, false));
        assert_eq!(all[0].succeeded, failed.succeeded, "the older one");
        assert!(all[1].is_current);
        failed.note(true);
        assert!(failed.is_current && good.succeeded <= failed.succeeded);
        assert_eq!(failed.failures, 1);
    }
}
