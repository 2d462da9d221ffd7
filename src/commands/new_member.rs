//! The flags of a member of a new cluster, for commands that make its data directory from files.

use std::path::PathBuf;

use clap::Args;
use keelson_store::Config;
use keelson_store::config::{StorageEngine, Url};

use crate::flags::parse_cluster;

/// The member whose data directory is made. Run the command for each member, with the same files
/// and the same --initial-cluster.
#[derive(Debug, Args)]
pub(super) struct NewMember {
    /// The new data directory; NAME.etcd if it is not given.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The new directory of the log, if it is another.
    #[arg(long)]
    wal_dir: Option<PathBuf>,
    /// The name of this member.
    #[arg(long, default_value = "default")]
    name: String,
    /// The members of the new cluster, NAME=PEER-URL,...
    #[arg(long, default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// The token of the new cluster.
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// The peer URLs of this member.
    #[arg(long, value_delimiter = ',', default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: Vec<String>,
}

/// The engine of the member whose data directory is made.
#[derive(Debug, Args)]
pub(super) struct NewEngine {
    /// The engine of the new member, as of --storage-engine.
    #[arg(long, value_parser = engine, default_value = StorageEngine::DEFAULT.name())]
    storage_engine: StorageEngine,
}

impl NewEngine {
    /// The configuration of a member with this engine.
    pub(super) fn of(&self, config: Config) -> Config {
        Config {
            storage_engine: self.storage_engine,
            ..config
        }
    }
}

/// Why the flags describe no member.
#[derive(Debug, thiserror::Error)]
pub(super) enum NewMemberError {
    /// etcd's text.
    #[error("error setting up initial cluster: {0}")]
    Cluster(String),
    #[error("--initial-advertise-peer-urls: {0}")]
    Url(String),
}

fn engine(name: &str) -> Result<StorageEngine, String> {
    let found = StorageEngine::from_name(name);
    found.ok_or_else(|| format!("choose one of {}", StorageEngine::COMPILED.join(", ")))
}

impl NewMember {
    /// The configuration of the member.
    pub(super) fn config(&self) -> Result<Config, NewMemberError> {
        let data_dir = self.data_dir.clone();
        let data_dir = data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.etcd", self.name)));
        let urls = self.initial_advertise_peer_urls.iter();
        let urls: Result<Vec<_>, _> = urls.map(|url| Url::parse(url)).collect();
        Ok(Config {
            wal_dir: self.wal_dir.clone(),
            initial_cluster: parse_cluster(&self.initial_cluster)
                .map_err(NewMemberError::Cluster)?,
            initial_cluster_token: self.initial_cluster_token.clone(),
            initial_advertise_peer_urls: urls
                .map_err(|error| NewMemberError::Url(error.to_string()))?,
            // What is restored may be larger than the default quota, which bounds the engine's map.
            quota_bytes: u64::MAX,
            ..Config::single(&self.name, data_dir)
        })
    }
}
