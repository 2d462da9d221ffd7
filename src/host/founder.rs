//! The note of its registration that a founder keeps until it has a log.
//!
//! A host that crashed between registering and founding finds its own entry at the discovery
//! service, and so does one that has lost its disk. The first may begin. The second may have voted
//! and acknowledged entries, and must not start as if it had not. Only the first has this note,
//! which is written before the entry is made, and removed once the log exists.

use std::io;
use std::path::{Path, PathBuf};

use keelson_discovery::Registration;
use keelson_store::internals::disk::{self, RealDisk};

use super::StartError;

/// The file name in the data directory.
const FILE: &str = "registered";

/// The note of one registration.
#[derive(Clone, Debug)]
pub(super) struct FounderNote {
    path: PathBuf,
    text: String,
}

impl FounderNote {
    /// The note for this registration under this token.
    pub(super) fn of(data_dir: &Path, token: &str, me: &Registration) -> FounderNote {
        FounderNote {
            path: data_dir.join(FILE),
            text: format!("{token}\n{}\n", me.value()),
        }
    }

    /// Whether the note exists and is still on the same disk.
    pub(super) fn is_there(&self) -> Result<bool, StartError> {
        let kept = disk::read_file(&RealDisk, &self.path);
        let kept = kept.map_err(|error| failed(&self.path, error))?;
        Ok(kept.is_some_and(|kept| kept == self.text.as_bytes()))
    }

    /// Writes the note, durably.
    pub(super) fn make(&self) -> io::Result<()> {
        let dir = self.path.parent().expect("it is in a directory");
        disk::create_dir_durably(&RealDisk, dir)?;
        disk::replace_file(&RealDisk, &self.path, self.text.as_bytes())
    }
}

/// Removes any note: the host has a log, or is not a founder.
pub(super) fn forget(data_dir: &Path) -> Result<(), StartError> {
    let path = data_dir.join(FILE);
    disk::remove_file(&RealDisk, &path).map_err(|error| failed(&path, error))
}

fn failed(path: &Path, error: io::Error) -> StartError {
    let path = path.to_owned();
    StartError::Note { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_of_one_registration() {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = dir.path().join("m1.etcd");
        let me = |name: &str| Registration::new(name, &["http://a:2380".to_owned()], "token");
        let note = FounderNote::of(&data_dir, "token", &me("m1"));
        assert!(!note.is_there().expect("it can be read"));
        note.make().expect("there is room");
        note.make().expect("and again");
        assert!(note.is_there().expect("it can be read"));
        for other in [
            FounderNote::of(&data_dir, "other", &me("m1")),
            FounderNote::of(&data_dir, "token", &me("m2")),
        ] {
            assert!(!other.is_there().expect("it can be read"), "{other:?}");
        }
        for _ in 0..2 {
            forget(&data_dir).expect("it can be removed");
            assert!(!note.is_there().expect("it can be read"));
        }
    }
}
