//! Why a member could not be brought up, and what to do about it.

use std::path::PathBuf;

use crate::config::{BootstrapError, ConfigError};
use crate::listen::ListenError;

/// A member could not be brought up. Nothing has been overwritten.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster cannot be founded or joined as configured.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A peer port could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log could not be opened.
    #[error(transparent)]
    Wal(#[from] crate::wal::WalError),
    /// The storage engine could not be opened.
    #[error("{0}")]
    Engine(String),
    /// Log and engine do not fit together.
    #[error(transparent)]
    Node(#[from] keelson_core::node::NodeError),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {dir}: {why}")]
    DataDir {
        /// Which.
        dir: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// The members of the cluster to be joined could not be asked.
    #[error(
        "could not get the member list of the cluster to join from any of {urls}: {why}. Check that \
         those members run and that `member add` was called for this member"
    )]
    Join {
        /// Whom it asked.
        urls: String,
        /// What the last one said.
        why: String,
    },
    /// The others know this member as one that has run already.
    #[error(
        "member {id} has already been bootstrapped: the others know it, and there is no data in \
         {dir}. A member that has lost its data must not vote again under its old name: call \
         `etcdctl member remove {id}` and `etcdctl member add` for this host, then start it with \
         --initial-cluster-state=existing and without --discovery; or point --data-dir at its data"
    )]
    AlreadyBootstrapped {
        /// Its id, in hexadecimal.
        id: String,
        /// Where its data should be.
        dir: PathBuf,
    },
    /// The data directory is etcd's.
    #[error(
        "{dir} is a data directory of {version}; Keelson keeps its own format and has not touched it. To \
         move: start Keelson with another, empty --data-dir, and copy while both run, v3 keys with \
         `etcdctl make-mirror`, v2 keys by reading /v2/keys/?recursive=true and setting them again; to go \
         on with etcd, start etcd on it"
    )]
    EtcdsData {
        /// Which.
        dir: PathBuf,
        /// etcd, with its version where the layout tells it.
        version: &'static str,
    },
    /// It joins as a member that has run already.
    #[error(
        "member {id} has run before, and there is no data of it in {dir}: it was lost, or --data-dir \
         points elsewhere. A member that has lost its data must not vote again under its old id: call \
         `etcdctl member remove {id}` and `etcdctl member add` for this host, then start it again with \
         --initial-cluster-state=existing; or point --data-dir at its data"
    )]
    LostItsData {
        /// Its id, in hexadecimal.
        id: String,
        /// Where its data should be.
        dir: PathBuf,
    },
    /// It may have run already, and those who would know do not say.
    #[error(
        "member {id} has been registered before, nothing is left of that in {dir}, and only {heard} \
         of the {needed} other founders who must say that it has never run answer. A member that has lost \
         its data must not vote again under its old name: start the others first. If it has run, call \
         `etcdctl member remove {id}` and `etcdctl member add` for this host, then start it with \
         --initial-cluster-state=existing and without --discovery; if the cluster has never run, make a \
         new token"
    )]
    NotVouchedFor {
        /// Its id, in hexadecimal.
        id: String,
        /// Where its data should be.
        dir: PathBuf,
        /// How many have answered.
        heard: usize,
        /// How many must.
        needed: usize,
    },
    /// Something that should not happen.
    #[error("{0}")]
    Internal(String),
}
