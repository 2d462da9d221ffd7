//! The files of this process that are read again on request: on SIGHUP.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::expiry::{self, CertificateEnd};
use super::readings::{self, FileReadings};

/// What is made from files and can be made anew.
pub trait Reload: Send + Sync {
    /// Reads the files again, though they seem unchanged. Files that cannot be used leave the
    /// former ones in use, with a warning.
    fn reload(&self);

    /// Reads the files again if they have changed.
    fn look(&self) {}

    /// The ends of the certificates in use; none by default. Reads no file.
    fn certificate_ends(&self) -> Vec<CertificateEnd> {
        Vec::new()
    }

    /// How the files were read; `None` by default. Reads no file.
    fn readings(&self) -> Option<FileReadings> {
        None
    }
}

/// Of the whole process: a signal has no other addressee.
static ALL: Mutex<Vec<Weak<dyn Reload>>> = Mutex::new(Vec::new());

/// Has [`reload_files`] reload it, as long as it exists.
pub fn register(weak: Weak<dyn Reload>) {
    let mut all = ALL.lock();
    all.retain(|one| 0 < one.strong_count());
    all.push(weak);
}

fn existing() -> Vec<Arc<dyn Reload>> {
    ALL.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Reads all registered files again. Returns whether there were any.
pub fn reload_files() -> bool {
    let all = existing();
    all.iter().for_each(|one| one.reload());
    !all.is_empty()
}

/// Whether anything is registered.
pub fn has_files() -> bool {
    !existing().is_empty()
}

/// How the files were read, one entry for each set of files.
pub fn file_readings() -> Vec<FileReadings> {
    let all = existing();
    readings::joined(all.iter().filter_map(|one| one.readings()).collect())
}

/// The ends of the certificates in use.
pub fn certificate_ends() -> Vec<CertificateEnd> {
    let mut ends: Vec<_> = existing()
        .iter()
        .flat_map(|one| one.certificate_ends())
        .collect();
    ends.sort();
    ends.dedup();
    ends
}

/// Logs a warning for every certificate in use that ends within 30 days. Blocks the thread: files
/// that have changed are read first.
pub fn warn_of_certificate_ends() {
    existing().iter().for_each(|one| one.look());
    expiry::warn_of_all(&certificate_ends());
}
