//! The data directory decides the role of a host, and keeps the peer URLs of a proxy's cluster.
//!
//! `member/` in it makes a member, `proxy/` a proxy, against flags and discovery: a proxy never
//! joins the quorum by itself. `keelson promote` makes it a member, first a learner.

use std::io;
use std::path::{Path, PathBuf};

use keelson_store::internals::disk::{self, DirectoryLock, Disk, RealDisk};
use serde::{Deserialize, Serialize};

const MEMBER: &str = "member";
const PROXY: &str = "proxy";
const CLUSTER: &str = "cluster";
const PROMOTED: &str = "promoted";

/// The role of a host by its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryRole {
    /// A member: the directory has a member's log.
    Member,
    /// A proxy.
    Proxy,
    /// A new host: flags and discovery decide.
    Undecided,
}

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
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
    /// Another process has locked it: a proxy or a promotion.
    #[error("{0} is in use by a proxy that runs: stop it first")]
    InUse(PathBuf),
    /// The file exists and cannot be parsed.
    #[error("{path} is not a list of peer URLs: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

impl DirectoryRole {
    /// The role by `data_dir`; undecided if it does not exist.
    pub(crate) fn of(data_dir: &Path) -> Result<DirectoryRole, DirectoryError> {
        let member = exists(&data_dir.join(MEMBER))?;
        let proxy = exists(&data_dir.join(PROXY))?;
        match (member, proxy) {
            (true, true) => Err(DirectoryError::Both),
            (true, false) => Ok(DirectoryRole::Member),
            (false, true) => Ok(DirectoryRole::Proxy),
            (false, false) => Ok(DirectoryRole::Undecided),
        }
    }
}

fn exists(path: &Path) -> Result<bool, DirectoryError> {
    RealDisk.exists(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> DirectoryError {
    let path = path.to_owned();
    DirectoryError::Io { path, error }
}

/// Whether a proxy's data directory has the peer URLs of its cluster.
///
/// # Errors
/// The file system's, or a malformed file.
pub(crate) fn has_cluster_file(data_dir: &Path) -> Result<bool, DirectoryError> {
    Ok(ClusterFile::of(data_dir).load()?.is_some())
}

/// Takes the lock of a proxy's data directory, held while a process uses it. Where directories
/// cannot be locked it succeeds: the proxy's file is replaced as a whole, and its content can be
/// fetched again.
///
/// # Errors
/// Another process has it, or there is no such directory.
pub(crate) fn lock(data_dir: &Path) -> Result<DirectoryLock, DirectoryError> {
    let path = data_dir.join(PROXY);
    disk::lock_dir(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DirectoryError::InUse(data_dir.to_owned()),
        _ => failed(&path, error),
    })
}

/// `<data-dir>/proxy/cluster`, in etcd 2's format.
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
    /// Creates the directory that makes the host a proxy.
    pub(crate) fn open(data_dir: &Path) -> Result<ClusterFile, DirectoryError> {
        if DirectoryRole::of(data_dir)? == DirectoryRole::Member {
            return Err(DirectoryError::Both);
        }
        let directory = data_dir.join(PROXY);
        disk::warn_if_open(data_dir);
        let made = disk::create_dir_durably(&RealDisk, &directory)
            .and_then(|()| disk::make_private(&directory));
        made.map_err(|error| failed(&directory, error))?;
        Ok(ClusterFile::of(data_dir))
    }

    /// The file, which may not exist.
    fn of(data_dir: &Path) -> ClusterFile {
        ClusterFile {
            path: data_dir.join(PROXY).join(CLUSTER),
        }
    }

    /// The file that a promotion leaves, so that it can be repeated if its output is lost.
    pub(crate) fn of_promoted(data_dir: &Path) -> ClusterFile {
        ClusterFile {
            path: data_dir.join(PROMOTED),
        }
    }

    /// Removes the proxy's directory durably. Beside a member's directory it would prevent the next
    /// start.
    pub(crate) fn remove(&self) -> Result<(), DirectoryError> {
        let directory = self.path.parent().expect("it is in a directory");
        disk::remove_dir_durably(&RealDisk, directory).map_err(|error| failed(directory, error))
    }

    /// Removes the file alone, if it exists.
    pub(crate) fn remove_file(&self) -> Result<(), DirectoryError> {
        disk::remove_file(&RealDisk, &self.path).map_err(|error| failed(&self.path, error))
    }

    /// The peer URLs of the last run; `None` if there was none, or it did not find its cluster.
    pub(crate) fn load(&self) -> Result<Option<Vec<String>>, DirectoryError> {
        let read = disk::read_file(&RealDisk, &self.path);
        let Some(bytes) = read.map_err(|error| failed(&self.path, error))? else {
            return Ok(None);
        };
        let cluster: Cluster =
            serde_json::from_slice(&bytes).map_err(|error| DirectoryError::Malformed {
                path: self.path.clone(),
                error,
            })?;
        Ok(Some(cluster.peer_urls).filter(|urls| !urls.is_empty()))
    }

    /// Replaces the file.
    pub(crate) fn save(&self, peer_urls: &[String]) -> Result<(), DirectoryError> {
        let cluster = Cluster {
            peer_urls: peer_urls.to_vec(),
        };
        let bytes = serde_json::to_vec(&cluster).expect("a list of strings is JSON");
        disk::replace_file(&RealDisk, &self.path, &bytes).map_err(|error| failed(&self.path, error))
    }
}

/// The peer URLs of a proxy's cluster, empty if it has never found it. `None`: the directory is not
/// a proxy's, and was not before a promotion.
///
/// # Errors
/// The file system's, or a malformed file.
pub(crate) fn peer_urls_of_proxy(data_dir: &Path) -> Result<Option<Vec<String>>, DirectoryError> {
    match DirectoryRole::of(data_dir)? {
        DirectoryRole::Proxy => {
            let kept = ClusterFile::open(data_dir)?.load()?;
            Ok(Some(kept.unwrap_or_default()))
        }
        DirectoryRole::Undecided => ClusterFile::of_promoted(data_dir).load(),
        DirectoryRole::Member => Ok(None),
    }
}

/// Removes the proxy from the directory, so that the host may become a member. Until it has, the
/// promotion may be repeated. Does nothing if the proxy was removed before.
///
/// # Errors
/// The file system's.
pub(crate) fn forget_proxy(data_dir: &Path) -> Result<(), DirectoryError> {
    if DirectoryRole::of(data_dir)? != DirectoryRole::Proxy {
        return Ok(());
    }
    let file = ClusterFile::open(data_dir)?;
    if let Some(peer_urls) = file.load()? {
        ClusterFile::of_promoted(data_dir).save(&peer_urls)?;
    }
    file.remove()
}

/// Whether the host was a proxy until a promotion, and [`forget_promotion`] has not been called
/// since.
///
/// # Errors
/// The file system's, or a malformed file.
pub(crate) fn was_promoted(data_dir: &Path) -> Result<bool, DirectoryError> {
    Ok(ClusterFile::of_promoted(data_dir).load()?.is_some())
}

/// Removes what a promotion left in the data directory, once the host votes.
///
/// # Errors
/// The file system's.
pub(crate) fn forget_promotion(data_dir: &Path) -> Result<(), DirectoryError> {
    ClusterFile::of_promoted(data_dir).remove_file()
}

#[cfg(test)]
mod tests;
