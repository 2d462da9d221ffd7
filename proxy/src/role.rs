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
pub fn has_cluster_file(data_dir: &Path) -> Result<bool, RoleError> {
    Ok(ClusterFile::of(data_dir).load()?.is_some())
}

/// Held while a process works with a proxy's data directory.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Lock {
    /// Takes it. A file system that cannot lock directories, as NFS, is warned of, and a proxy runs
    /// there all the same: what it keeps is replaced as a whole, and it can be learnt anew.
    ///
    /// # Errors
    /// Another process has it, or there is no such directory.
    pub fn take(data_dir: &Path) -> Result<Lock, RoleError> {
        let path = data_dir.join(PROXY);
        let directory = File::open(&path).map_err(|error| failed(&path, error))?;
        match is_locked(directory.try_lock(), &path) {
            true => Ok(Lock(directory)),
            false => Err(RoleError::InUse(data_dir.to_owned())),
        }
    }
}

/// Whether a directory is locked by this process, or cannot be locked at all.
fn is_locked(locked: Result<(), TryLockError>, directory: &Path) -> bool {
    if let Err(TryLockError::Error(error)) = &locked {
        tracing::warn!(
            dir = %directory.display(), %error,
            "the directory cannot be locked; make sure that no other proxy or promotion uses it"
        );
    }
    !matches!(locked, Err(TryLockError::WouldBlock))
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
        let made = create_private_dir(&directory, &mut sync_dir);
        made.map_err(|error| failed(&directory, error))?;
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

    /// Takes the proxy's directory away, durably: beside a member's it would refuse the next start.
    pub(crate) fn remove(&self) -> Result<(), RoleError> {
        let directory = self.path.parent().expect("it is in a directory");
        let removed = fs::remove_dir_all(directory).and_then(|()| sync_dir(parent_of(directory)));
        removed.map_err(|error| failed(directory, error))
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

/// Creates a directory and its missing parents, and takes the rights of others off one that exists. Each is
/// durable in its parent, by `sync`, also where an earlier process made it and did not live to do that.
fn create_private_dir(
    dir: &Path,
    sync: &mut impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in missing.iter().skip(1).rev() {
        sync(parent_of(made))?;
    }
    sync(parent_of(dir))?;
    let found = fs::metadata(dir)?.permissions().mode() & 0o7777;
    match found & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(dir, Permissions::from_mode(found & !0o077)),
    }
}

/// The working directory for a name without one.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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
    sync_dir(parent_of(path))
}

#[cfg(test)]
mod tests;
