//! What is made from files, and made anew when they change.
//!
//! Every use looks at the files' times, sizes and inodes. Files that cannot be used, or do not
//! belong together, leave the former ones in use, with a warning. That of certificate and key does
//! not hold back the other files.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::expiry::{self, CertificateEnd};
use super::readings::FileReadings;

/// After this time files that could not be used are tried again, though they have not changed: the
/// cause may have been another, such as a lack of descriptors.
const RETRY: Duration = Duration::from_secs(60);

/// What was made from files, and the ends of the certificates in them.
pub struct Made<T> {
    /// What was made.
    pub value: T,
    /// The ends of certificates.
    pub ends: Vec<CertificateEnd>,
    /// Why some files could not be used, in whose place the former ones are.
    pub trouble: Option<String>,
}

type Make<T> = dyn Fn() -> Result<Made<T>, String> + Send + Sync;

/// What is made from files.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    make: Box<Make<T>>,
    /// Held while files are read: before `current`.
    look: Mutex<Look>,
    /// Never held while files are read.
    current: Mutex<Current<T>>,
}

struct Look {
    stamps: Vec<Stamp>,
    /// When files that could not be used are tried again.
    retry: Option<Instant>,
}

struct Current<T> {
    value: Arc<T>,
    ends: Vec<CertificateEnd>,
    readings: FileReadings,
}

/// Shows whether a file is the same as before; `None` of one that is gone.
type Stamp = Option<(i64, i64, u64, u64)>;

impl<T: Send + Sync + 'static> Watched<T> {
    /// Makes the value for the first time.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason.
    pub fn new<E: Display + 'static>(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: impl Fn() -> Result<Made<T>, E> + Send + Sync + 'static,
    ) -> Result<Arc<Watched<T>>, E> {
        let stamps = stamps(&paths);
        let made = make()?;
        expiry::warn_of_all(&made.ends);
        let watched = Arc::new(Watched {
            paths: paths.clone(),
            make: Box::new(move || make().map_err(|error| error.to_string())),
            look: Mutex::new(Look {
                stamps,
                retry: None,
            }),
            current: Mutex::new(Current {
                value: Arc::new(made.value),
                ends: made.ends,
                readings: FileReadings::first(what, paths),
            }),
        });
        let weak: Weak<Watched<T>> = Arc::downgrade(&watched);
        super::reload::register(weak);
        Ok(watched)
    }

    /// The value of the files as they were at the last look.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.lock().value)
    }

    /// The value of the files as they are. Blocks the thread for the time of a look at them.
    pub fn latest(&self) -> Arc<T> {
        let stamps = stamps(&self.paths);
        let mut look = self.look.lock();
        let is_due = look.retry.is_some_and(|retry| retry <= Instant::now());
        if stamps != look.stamps || is_due {
            self.remake(&mut look, stamps);
        }
        self.current()
    }

    fn remake(&self, look: &mut Look, stamps: Vec<Stamp>) {
        look.stamps = stamps;
        let what = self.current.lock().readings.what;
        match (self.make)() {
            Ok(made) => {
                match &made.trouble {
                    None => info!(files = ?self.paths, "using the new {what}"),
                    Some(error) => warn!(
                        %error,
                        "cannot use the new certificate and key; the former ones stay in use"
                    ),
                }
                expiry::warn_of_all(&made.ends);
                let mut current = self.current.lock();
                current.value = Arc::new(made.value);
                current.ends = made.ends;
                current.readings.note(made.trouble.is_none());
                look.retry = made.trouble.map(|_| Instant::now() + RETRY);
            }
            Err(error) => {
                warn!(
                    %error,
                    "cannot use the new {what}; the former ones stay in use, and what the new \
                     ones revoke is not revoked"
                );
                self.current.lock().readings.note(false);
                look.retry = Some(Instant::now() + RETRY);
            }
        }
    }
}

impl<T: Send + Sync + 'static> super::Reload for Watched<T> {
    fn reload(&self) {
        let stamps = stamps(&self.paths);
        self.remake(&mut self.look.lock(), stamps);
    }

    fn look(&self) {
        self.latest();
    }

    fn certificate_ends(&self) -> Vec<CertificateEnd> {
        self.current.lock().ends.clone()
    }

    fn readings(&self) -> Option<FileReadings> {
        Some(self.current.lock().readings.clone())
    }
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watched").field(&self.paths).finish()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some((file.mtime(), file.mtime_nsec(), file.len(), file.ino()))
    };
    paths.iter().map(stamp).collect()
}
