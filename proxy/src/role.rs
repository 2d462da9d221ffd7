//! The data directory decides what a host is, and remembers where a proxy's cluster was.
//!
//! `member/` in it makes a member, `proxy/` a proxy, whatever flags and discovery say: a proxy
//! never drags itself into the quorum. `keelson promote` makes a member of one, first a learner. The
//! only file of this crate that touches the file system.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const MEMBER: &str = "member";
const PROXY: &str = "proxy";
const CLUSTER: &str = "cluster";
const PROMOTED: &str = "promoted";

/// What a data directory says its host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member, since it has a member's log.
    Member,
    /// A proxy.
    Proxy,
    /// A new host: flags and discovery decide.
    Undecided,
}

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// etcd's text.
    #[error("invalid datadir. Both member and proxy directories exist.")]
    Both,
    /// It cannot be read or written.
    #[error("cannot use {path}: {error}")]
    Io {
        /// What was being used.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// A process has it, which may be a proxy or a promotion.
    #[error("{0} is in use by a proxy that runs: stop it first")]
    InUse(PathBuf),
    /// The file is there and says nothing.
    #[error("{path} is not a list of peer URLs: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

impl Role {
    /// What `data_dir` says. A directory that is not there says nothing.
    pub fn of(data_dir: &Path) -> Result<Role, RoleError> {
        let member = exists(&data_dir.join(MEMBER))?;
        let proxy = exists(&data_dir.join(PROXY))?;
        match (member, proxy) {
            (true, true) => Err(RoleError::Both),
            (true, false) => Ok(Role::Member),
            (false, true) => Ok(Role::Proxy),
            (false, false) => Ok(Role::Undecided),
        }
    }
}

fn exists(path: &Path) -> Result<bool, RoleError> {
    path.try_exists().map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> RoleError {
    let path = path.to_owned();
    RoleError::Io { path, error }
}

/// Whether a proxy's data directory says where its cluster is.
///
/// # Errors
/// The file system's, or a file that says nothing.
pub fn knows_its_cluster(data_dir: &Path) -> Result<bool, RoleError> {
    Ok(ClusterFile::of(data_dir).load()?.is_some())
}

/// Held by who works with a proxy's data directory, as long as it exists.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// Another process has it, or there is no such directory.
    pub fn take(data_dir: &Path) -> Result<Lock, RoleError> {
        let path = data_dir.join(PROXY);
        let directory = File::open(&path).map_err(|error| failed(&path, error))?;
        match directory.try_lock() {
            Ok(()) => Ok(Lock(directory)),
            Err(TryLockError::WouldBlock) => Err(RoleError::InUse(data_dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(&path, error)),
        }
    }
}

/// `<data-dir>/proxy/cluster`, as etcd 2 writes it.
#[derive(Clone, Debug)]
pub(crate) struct ClusterFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Cluster {
    #[serde(rename = "PeerURLs")]
    peer_urls: Vec<String>,
}

impl ClusterFile {
    /// Makes the host a proxy, by the directory alone.
    pub(crate) fn open(data_dir: &Path) -> Result<ClusterFile, RoleError> {
        if Role::of(data_dir)? == Role::Member {
            return Err(RoleError::Both);
        }
        let directory = data_dir.join(PROXY);
        warn_if_open(data_dir);
        create_private_dir(&directory).map_err(|error| failed(&directory, error))?;
        Ok(ClusterFile::of(data_dir))
    }

    /// The file, whether it is there or not.
    fn of(data_dir: &Path) -> ClusterFile {
        ClusterFile {
            path: data_dir.join(PROXY).join(CLUSTER),
        }
    }

    /// What a promotion leaves behind, so that it can be repeated when its output is lost.
    pub(crate) fn of_promoted(data_dir: &Path) -> ClusterFile {
        ClusterFile {
            path: data_dir.join(PROMOTED),
        }
    }

    /// Takes the proxy's directory away.
    pub(crate) fn remove(&self) -> Result<(), RoleError> {
        let directory = self.path.parent().expect("it is in a directory");
        fs::remove_dir_all(directory).map_err(|error| failed(directory, error))
    }

    /// Removes the file alone. It may be gone already.
    pub(crate) fn remove_file(&self) -> Result<(), RoleError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&self.path, error)),
            _ => Ok(()),
        }
    }

    /// The peer URLs of the last run; `None` when there was none, or it never got that far.
    pub(crate) fn load(&self) -> Result<Option<Vec<String>>, RoleError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&self.path, error)),
        };
        let cluster: Cluster =
            serde_json::from_slice(&bytes).map_err(|error| RoleError::Malformed {
                path: self.path.clone(),
                error,
            })?;
        Ok(Some(cluster.peer_urls).filter(|urls| !urls.is_empty()))
    }

    /// Replaces the file.
    pub(crate) fn save(&self, peer_urls: &[String]) -> Result<(), RoleError> {
        let cluster = Cluster {
            peer_urls: peer_urls.to_vec(),
        };
        let bytes = serde_json::to_vec(&cluster).expect("a list of strings is JSON");
        replace_file(&self.path, &bytes).map_err(|error| failed(&self.path, error))
    }
}

/// Warns of a data directory that others than its owner may enter. It is an operator's, and left as it
/// is.
fn warn_if_open(data_dir: &Path) {
    let Ok(found) = fs::metadata(data_dir) else {
        return;
    };
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            dir = %data_dir.display(),
            permission = %format_args!("{mode:04o}"),
            "others than its owner may enter the data directory; make it 0700 (chmod 700)"
        );
    }
}

/// Creates a directory, and takes the rights of others off one that exists.
fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::metadata(dir)?.permissions().mode() & 0o7777;
    match found & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(dir, Permissions::from_mode(found & !0o077)),
    }
}

/// Replaces a file durably, by one that only its owner may read; after a crash it is the old one or the new one.
///
/// # Errors
/// The file system's.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("bak");
    // A new one: what is there may be a link to elsewhere, or readable for others.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let directory = path.parent().expect("a file is in a directory");
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_decides() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Role::of(&dir.path().join("none")).unwrap(), Role::Undecided);
        assert_eq!(Role::of(dir.path()).unwrap(), Role::Undecided);
        fs::create_dir(dir.path().join("proxy")).unwrap();
        assert_eq!(Role::of(dir.path()).unwrap(), Role::Proxy);
        fs::create_dir(dir.path().join("member")).unwrap();
        let both = Role::of(dir.path()).unwrap_err();
        let etcds = "invalid datadir. Both member and proxy directories exist.";
        assert_eq!(both.to_string(), etcds);
        fs::remove_dir(dir.path().join("proxy")).unwrap();
        assert_eq!(Role::of(dir.path()).unwrap(), Role::Member);
        assert!(ClusterFile::open(dir.path()).is_err());
    }

    #[test]
    fn one_process_at_a_time_has_a_proxys_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Lock::take(dir.path()), Err(RoleError::Io { .. })));
        let file = ClusterFile::open(dir.path()).unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err();
        assert!(matches!(refused, RoleError::InUse(_)), "{refused}");
        // What is saved meanwhile does not end it.
        file.save(&["http://a:1".to_owned()]).unwrap();
        assert!(Lock::take(dir.path()).is_err());
        drop(lock);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn the_cluster_file_is_etcds() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("proxy.etcd");
        let file = ClusterFile::open(&data_dir).unwrap();
        assert_eq!(Role::of(&data_dir).unwrap(), Role::Proxy);
        assert_eq!(file.load().unwrap(), None);
        assert!(!knows_its_cluster(&data_dir).unwrap());
        file.save(&["http://127.0.0.1:23801".to_owned()]).unwrap();
        let path = data_dir.join("proxy/cluster");
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, r#"{"PeerURLs":["http://127.0.0.1:23801"]}"#);
        assert!(knows_its_cluster(&data_dir).unwrap());
        let again = ClusterFile::open(&data_dir).unwrap();
        assert_eq!(again.load().unwrap().unwrap(), ["http://127.0.0.1:23801"]);
        // etcd 2 saved an empty list before it knew better.
        fs::write(&path, r#"{"PeerURLs":[]}"#).unwrap();
        assert_eq!(file.load().unwrap(), None);
        fs::write(&path, "{").unwrap();
        assert!(matches!(file.load(), Err(RoleError::Malformed { .. })));
    }

    #[test]
    fn what_was_open_or_a_link_is_private_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let proxy = dir.path().join("proxy");
        fs::create_dir(&proxy).unwrap();
        fs::set_permissions(&proxy, Permissions::from_mode(0o755)).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, proxy.join("cluster.bak")).unwrap();
        let file = ClusterFile::open(dir.path()).unwrap();
        file.save(&["http://a:2380".to_owned()]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&proxy), mode(&file.path)), (0o700, 0o600));
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    }
}
