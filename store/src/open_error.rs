//! Why a member could not be started, and the remedy.

use std::path::PathBuf;

use crate::config::{BootstrapError, ConfigError};
use crate::listen::ListenError;

/// A member could not be started. Nothing has been overwritten.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster cannot be founded or joined as configured.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A peer port could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A file for TLS between members cannot be used.
    #[error(
        "{0}; check --peer-cert-file, --peer-key-file, --peer-trusted-ca-file, --peer-crl-file"
    )]
    PeerTls(#[from] keelson_port::TlsError),
    /// The log could not be opened.
    #[error(transparent)]
    Wal(#[from] crate::wal::WalError),
    /// The storage engine could not be opened.
    #[error("{0}")]
    Engine(String),
    /// The log and the engine do not belong together.
    #[error(transparent)]
    Node(#[from] keelson_core::node::NodeError),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {dir}: {why}")]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// The cause and the remedy.
        why: String,
    },
    /// No member of the cluster to join returned its member list.
    #[error(
        "could not get the member list of the cluster to join from any of {urls}: {why}. Check \
         that those members run and that `member add` was called for this member"
    )]
    Join {
        /// The URLs that were tried.
        urls: String,
        /// The error of the last one.
        why: String,
    },
    /// The other members record that this member has run already.
    #[error(
        "member {id} has already been bootstrapped: the other members list it, and there is no \
         data in {dir}. A member that has lost its data must not vote again under its old name: \
         call `etcdctl member remove {id}` and `etcdctl member add` for this host, then start it \
         with --initial-cluster-state=existing and without --discovery; or point --data-dir at \
         its data"
    )]
    AlreadyBootstrapped {
        /// The member id, in hexadecimal.
        id: String,
        /// The expected directory of its data.
        dir: PathBuf,
    },
    /// The data directory belongs to etcd.
    #[error(
        "{dir} is a data directory of {version}; Keelson keeps its own format and has not \
         touched it. To move: stop etcd, `keelson import` it into another --data-dir, and start \
         Keelson with that; to go on with etcd, start etcd on it"
    )]
    EtcdsData {
        /// The directory.
        dir: PathBuf,
        /// `etcd`, with its version where the layout shows it.
        version: &'static str,
    },
    /// The joining member has published its URLs, so it has run already.
    #[error(
        "member {id} has run before, and there is no data of it in {dir}: it was lost, or \
         --data-dir points elsewhere. A member that has lost its data must not vote again under \
         its old id: call `etcdctl member remove {id}` and `etcdctl member add` for this host, \
         then start it again with --initial-cluster-state=existing; or point --data-dir at its data"
    )]
    LostItsData {
        /// The member id, in hexadecimal.
        id: String,
        /// The expected directory of its data.
        dir: PathBuf,
    },
    /// The member may have run already, and too few other founders confirm that it has not.
    #[error(
        "member {id} has been registered before, {dir} holds no data of it, and only {confirmed} \
         of the {needed} other founders that must confirm that it has never run respond. A member \
         that has lost its data must not vote again under its old name: start the others first. \
         If it has run, call `etcdctl member remove {id}` and `etcdctl member add` for this host, \
         then start it with --initial-cluster-state=existing and without --discovery; if the \
         cluster has never run, make a new token"
    )]
    NotVouchedFor {
        /// The member id, in hexadecimal.
        id: String,
        /// The expected directory of its data.
        dir: PathBuf,
        /// The number of founders that responded.
        confirmed: usize,
        /// The number of founders that must confirm.
        needed: usize,
    },
    /// Other members have other pairs at the same revision. etcd's text, and the remedy.
    #[error(
        "{0} found data inconsistency with peers; compare `etcdctl endpoint hashkv --cluster`, \
         and replace the member that differs from the majority"
    )]
    Inconsistent(keelson_core::MemberId),
    /// An internal failure that should be impossible.
    #[error("{0}")]
    Internal(String),
}
