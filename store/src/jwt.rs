//! The keys of JWT tokens, in files that are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::edge::{JwtError, JwtKeys, JwtMethod};

/// How often the files' times are looked at, at most: a request is checked far more often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What `--auth-token jwt` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtFiles {
    /// How tokens are signed.
    pub method: JwtMethod,
    /// The public key; it may be left out beside a private one.
    pub public: Option<PathBuf>,
    /// The private key. `None`: tokens of others are verified, and nobody logs in here.
    pub private: Option<PathBuf>,
    /// How long a token is valid.
    pub ttl: Duration,
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwtFilesError {
    /// It is not there, or not ours to read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, io::Error),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] JwtError),
}

/// The keys. Clones share them.
#[derive(Clone, Debug)]
pub struct JwtTokens(Arc<LatestKeys>);

#[derive(Debug)]
struct LatestKeys {
    files: JwtFiles,
    latest: Mutex<Loaded>,
}

/// Of the public and the private file; `None` of one that is gone, or not named.
type Times = [Option<SystemTime>; 2];

#[derive(Debug)]
struct Loaded {
    looked: Instant,
    changed: Times,
    keys: Arc<JwtKeys>,
}

impl JwtTokens {
    /// Reads the files.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason.
    pub fn open(files: JwtFiles) -> Result<JwtTokens, JwtFilesError> {
        let latest = Mutex::new(Loaded {
            looked: Instant::now(),
            changed: times(&files),
            keys: Arc::new(read(&files)?),
        });
        Ok(JwtTokens(Arc::new(LatestKeys { files, latest })))
    }

    /// How long a token is valid.
    pub fn ttl(&self) -> Duration {
        self.0.files.ttl
    }

    /// The keys that the files have now, or had a second ago. Files that cannot be used leave the
    /// old ones in use.
    pub fn keys(&self) -> Arc<JwtKeys> {
        let LatestKeys { files, latest } = &*self.0;
        let mut latest = latest.lock();
        if LOOK_AGAIN <= latest.looked.elapsed() {
            latest.looked = Instant::now();
            let changed = times(files);
            if changed != latest.changed {
                // Once for every change, also of files that cannot be used.
                latest.changed = changed;
                match read(files) {
                    Ok(keys) => {
                        info!("using the new keys of JWT tokens");
                        latest.keys = Arc::new(keys);
                    }
                    Err(error) => warn!(%error, "going on with the old keys of JWT tokens"),
                }
            }
        }
        Arc::clone(&latest.keys)
    }
}

fn times(files: &JwtFiles) -> Times {
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    [&files.public, &files.private].map(|path| path.as_ref().and_then(changed))
}

fn read(files: &JwtFiles) -> Result<JwtKeys, JwtFilesError> {
    let bytes = |path: &Path| {
        fs::read(path).map_err(|error| JwtFilesError::Unreadable(path.to_owned(), error))
    };
    let public = files.public.as_deref().map(bytes).transpose()?;
    let private = files.private.as_deref().map(bytes).transpose()?;
    let keys = JwtKeys::new(files.method, public.as_deref(), private.as_deref());
    Ok(keys?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_files_are_read_again_and_bad_ones_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let files = |private| JwtFiles {
            method: JwtMethod::named("HS256").unwrap(),
            public: None,
            private,
            ttl: Duration::from_secs(300),
        };
        let absent = JwtTokens::open(files(Some(path.clone())));
        assert!(absent.unwrap_err().to_string().starts_with("cannot read"));
        let missing = JwtTokens::open(files(None)).unwrap_err();
        assert_eq!(missing.to_string(), "auth: missing key data");
        fs::write(&path, "first").unwrap();
        let tokens = JwtTokens::open(files(Some(path.clone()))).unwrap();
        let first = tokens.keys();
        let look = || {
            let earlier = Instant::now().checked_sub(LOOK_AGAIN);
            tokens.0.latest.lock().looked = earlier.expect("a second ago");
            tokens.keys()
        };
        assert!(Arc::ptr_eq(&first, &look()));
        let touch = |seconds| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
                .unwrap();
        };
        fs::write(&path, "second").unwrap();
        touch(1);
        assert!(Arc::ptr_eq(&first, &tokens.keys()), "not every time");
        let second = look();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(&path, "").unwrap();
        touch(2);
        assert!(Arc::ptr_eq(&second, &look()));
    }
}
