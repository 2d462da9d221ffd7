//! The promotion of a proxy to a member, by an operator. A proxy never promotes itself.

use keelson_port::ClientTls;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::policy::members::{self, Peers};
use crate::role::{ClusterFile, Role, RoleError};

/// The time in which a peer must accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a proxy cannot be promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// There is no proxy in it.
    #[error("{0} is not a proxy's data directory: there is no {0}/proxy")]
    NotAProxy(PathBuf),
    /// The proxy has never found its cluster, or no member answers.
    #[error(
        "no member of the proxy's cluster answers on its peer URL; the promotion needs a cluster \
         that works"
    )]
    NoMemberAnswers,
}

/// The client URLs of the members of a proxy's cluster. `data_dir` is the proxy's, or was before a
/// promotion.
///
/// # Errors
/// The directory is not a proxy's, or no member answers.
pub async fn cluster_of_proxy(data_dir: &Path) -> Result<Vec<String>, PromoteError> {
    let promoted = ClusterFile::of_promoted(data_dir);
    let file = match Role::of(data_dir)? {
        Role::Proxy => ClusterFile::open(data_dir)?,
        Role::Undecided if promoted.load()?.is_some() => promoted,
        _ => return Err(PromoteError::NotAProxy(data_dir.to_owned())),
    };
    let peers = Peers::new(Vec::new(), Some(file), ClientTls::default())?;
    let found = members::fetch_once(peers, DIAL_TIMEOUT).await;
    found.ok_or(PromoteError::NoMemberAnswers)
}

/// Removes the proxy from the directory, so that the host may become a member. Until it has, the
/// promotion may be repeated. Does nothing if the proxy was removed before.
///
/// # Errors
/// The file system's.
pub fn forget_proxy(data_dir: &Path) -> Result<(), RoleError> {
    if Role::of(data_dir)? != Role::Proxy {
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
pub fn was_promoted(data_dir: &Path) -> Result<bool, RoleError> {
    Ok(ClusterFile::of_promoted(data_dir).load()?.is_some())
}

/// Removes what a promotion left in the data directory, once the host votes.
///
/// # Errors
/// The file system's.
pub fn forget_promotion(data_dir: &Path) -> Result<(), RoleError> {
    ClusterFile::of_promoted(data_dir).remove_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_proxy_is_promoted() {
        let dir = tempfile::tempdir().unwrap();
        let refused = cluster_of_proxy(dir.path()).await.unwrap_err();
        assert!(matches!(refused, PromoteError::NotAProxy(_)), "{refused}");
        ClusterFile::open(dir.path()).unwrap();
        let refused = cluster_of_proxy(dir.path()).await.unwrap_err();
        assert!(
            matches!(refused, PromoteError::NoMemberAnswers),
            "{refused}"
        );
        forget_proxy(dir.path()).unwrap();
        assert_eq!(Role::of(dir.path()).unwrap(), Role::Undecided);
    }

    #[tokio::test]
    async fn a_promotion_may_be_repeated_until_the_host_is_a_member() {
        let dir = tempfile::tempdir().unwrap();
        let file = ClusterFile::open(dir.path()).unwrap();
        file.save(&["http://127.0.0.1:1".to_owned()]).unwrap();
        for _ in 0..2 {
            forget_proxy(dir.path()).unwrap();
            assert_eq!(Role::of(dir.path()).unwrap(), Role::Undecided);
            let refused = cluster_of_proxy(dir.path()).await.unwrap_err();
            assert!(
                matches!(refused, PromoteError::NoMemberAnswers),
                "{refused}"
            );
        }
        assert!(was_promoted(dir.path()).unwrap());
        std::fs::create_dir(dir.path().join("member")).unwrap();
        let refused = cluster_of_proxy(dir.path()).await.unwrap_err();
        assert!(matches!(refused, PromoteError::NotAProxy(_)), "{refused}");
        for _ in 0..2 {
            forget_promotion(dir.path()).unwrap();
            assert!(!was_promoted(dir.path()).unwrap());
        }
    }
}
