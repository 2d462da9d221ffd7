//! The keys of JWT tokens, in files that are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use keelson_port::{Made, Watched};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::Store;
use crate::edge::{JwtError, JwtKeys, JwtMethod};

/// The interval of looks at the files.
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
pub struct JwtTokens {
    ttl: Duration,
    keys: Arc<Watched<JwtKeys>>,
}

impl JwtTokens {
    /// Reads the files.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason.
    pub fn open(files: JwtFiles) -> Result<JwtTokens, JwtFilesError> {
        let paths = [&files.public, &files.private].into_iter().flatten();
        let paths = paths.cloned().collect();
        let ttl = files.ttl;
        let keys = Watched::new("keys of JWT tokens", paths, move || {
            Ok::<_, JwtFilesError>(Made {
                value: read(&files)?,
                ends: Vec::new(),
                trouble: None,
            })
        })?;
        Ok(JwtTokens { ttl, keys })
    }

    /// How long a token is valid.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The keys of the files as they were a second ago. Files that cannot be used leave the former
    /// ones in use.
    pub fn keys(&self) -> Arc<JwtKeys> {
        self.keys.current()
    }
}

/// Looks at the files once a second, if there are any, so that no request waits for it.
pub(crate) async fn watch(store: Store) {
    let Some(JwtTokens { keys, .. }) = store.config().jwt.clone() else {
        return;
    };
    let mut stopping = store.watch_stopping();
    loop {
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let keys = Arc::clone(&keys);
        let _ = spawn_blocking(move || keys.latest()).await;
    }
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
    use std::time::SystemTime;

    use super::*;
    use crate::edge::fuzzing;

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
        let touch = |text, seconds| {
            fs::write(&path, text).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
                .unwrap();
        };
        touch("second", 1);
        assert!(Arc::ptr_eq(&first, &tokens.keys()), "no request looks");
        let second = tokens.keys.latest();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &tokens.keys()));
        touch("", 2);
        assert!(Arc::ptr_eq(&second, &tokens.keys.latest()));
    }

    /// What SIGHUP does. A file of the same size and time seems unchanged to every look.
    #[test]
    fn a_signal_has_a_new_key_used_and_a_broken_file_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let put = |text| {
            fs::write(&path, text).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        put("key 1");
        let tokens = JwtTokens::open(JwtFiles {
            method: JwtMethod::named("HS256").unwrap(),
            public: None,
            private: Some(path.clone()),
            ttl: Duration::from_secs(300),
        });
        let tokens = tokens.unwrap();
        let readings = || {
            let mut all = keelson_port::file_readings();
            all.retain(|of| of.paths == [path.clone()]);
            all.pop().expect("they are registered")
        };
        let end = Duration::from_secs(u32::MAX.into());
        let token = || fuzzing::jwt(&tokens.keys(), "a", end).expect("a secret signs");
        let accepts = |token: &str| {
            fuzzing::name_of_jwt(&tokens.keys(), token, Duration::from_secs(1)).is_some()
        };
        let first = token();
        put("key 2");
        assert!(keelson_port::reload_files());
        assert!(!accepts(&first), "the old key is gone");
        let second = token();
        assert_eq!((readings().failures, readings().is_current), (0, true));
        let succeeded = readings().succeeded;
        fs::write(&path, "").unwrap();
        keelson_port::reload_files();
        assert!(accepts(&second), "the old key stays in use");
        assert!(!readings().is_current && 1 <= readings().failures);
        assert!(readings().succeeded == succeeded);
        put("key 3");
        keelson_port::reload_files();
        assert!(readings().is_current && !accepts(&second) && accepts(&token()));
    }
}
