//! The configuration of a member: one plain struct, without flags, environment or IO.
//!
//! `src/` fills it from etcd's flags; a program that embeds the store starts from
//! [`Config::single`] and changes what it needs.

use std::path::PathBuf;

pub use crate::corruption::CorruptionChecks;
pub use keelson_core::member::{AuditPolicy, AutoCompaction};
pub use keelson_core::state::COMMAND_VERSION;

use keelson_port::Access;

use crate::jwt::JwtTokens;

pub mod identity;
pub mod initial_cluster;
pub(crate) mod peer_tls;

pub use initial_cluster::{BootstrapError, Founder};
pub use keelson_port::url::{self, Scheme, Url, UrlError};

pub use crate::edge::{RateLimit, RateLimits};
pub use crate::engine::StorageEngine;
pub use keelson_port::{AllowedNames, ClientTlsFiles, TlsFiles, TlsParameters};
pub use peer_tls::PeerTlsFiles;

pub use crate::traces::TracingConfig;

/// Whether a member without data founds a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    /// The founding: all members of `initial_cluster` start for the first time, together.
    New,
    /// The cluster is running, and `member add` has announced this member.
    Existing,
}

/// A member's configuration. Names and defaults are etcd's unless noted.
#[derive(Clone, Debug)]
pub struct Config {
    /// Human-readable, unique in the cluster; chooses this member's entry in `initial_cluster`.
    pub name: String,
    /// The member's durable state. The directory is created with mode 0700 if it is missing.
    pub data_dir: PathBuf,
    /// The directory of the log, if not in `data_dir`: its fsyncs may have a disk of their own.
    pub wal_dir: Option<PathBuf>,

    /// The listen addresses for peers. Empty: no port is opened, for a single embedded member.
    pub listen_peer_urls: Vec<Url>,
    /// The peer URLs that the other members use; hashed into the member id at the founding.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// TLS between members; none by default.
    pub peer_tls: PeerTlsFiles,
    /// The client URLs that `member list` reports for this member. May be empty when embedded.
    pub advertise_client_urls: Vec<Url>,

    /// The founding members, one entry for each URL. Ignored once there is a log.
    pub initial_cluster: Vec<(String, Url)>,
    /// Whether to found or to join. Ignored once there is a log.
    pub initial_cluster_state: InitialClusterState,
    /// This host has registered as a founder before, and no data of that start is left: it
    /// crashed in between, or lost its data. It founds the cluster only if enough other founders
    /// confirm that it has never run. Ignored once there is a log.
    pub must_be_vouched_for: bool,
    /// Hashed into every id, so that two clusters with equal URLs have different ids.
    pub initial_cluster_token: String,
    /// Refuse membership changes that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// The number of learners beyond which this member, as the leader, adds no other.
    pub max_learners: usize,
    /// Start a cluster of this member alone, from its data: disaster recovery after a permanent
    /// loss of the quorum.
    pub force_new_cluster: bool,

    /// Milliseconds between a leader's heartbeats, 100; about a round trip between members.
    pub heartbeat_ms: u64,
    /// Milliseconds without a leader before a member starts an election, 1000; at least five
    /// heartbeats, at most 50 s.
    pub election_ms: u64,
    /// Shorten the timeout of the first election after a start, when there cannot be a leader yet.
    pub initial_election_tick_advance: bool,
    /// Raft's PreVote phase, so that a member with a bad link does not depose a good leader. On,
    /// as in etcd 3.5 and later (3.4: off).
    pub pre_vote: bool,

    /// Entries applied between two snapshots, 10,000 as in etcd 3.6 and later (3.4: 100,000). It
    /// bounds the log in memory and on disk; a snapshot here is cheap.
    pub snapshot_count: u64,
    /// Entries kept behind the snapshot, 5,000, so that a slow member needs no snapshot.
    pub snapshot_catchup_entries: u64,
    /// Bytes of the key space at which writes fail with NOSPACE, 2 GiB; `u64::MAX` for no limit.
    pub quota_bytes: u64,
    /// Defragment after the start if that frees at least so many bytes; 0 for never.
    pub bootstrap_defrag_bytes: u64,
    /// How members are compared with each other.
    pub corruption: CorruptionChecks,
    /// Compaction by the leader; `None` leaves it to clients.
    pub auto_compaction: Option<AutoCompaction>,
    /// Operations in one transaction, 128.
    pub max_txn_ops: usize,
    /// The interval of periodic progress messages to watchers, in milliseconds.
    pub watch_progress_interval_ms: u64,
    /// With auth, a client of gRPC without a token is the user whom its certificate names.
    pub client_cert_auth: bool,
    /// The time after which an unused token of the v3 API ends, in seconds; 0 for the default, 300.
    pub auth_token_ttl_s: u64,
    /// The keys of JWT tokens; `None` for tokens of the cluster's own. The same on all members.
    pub jwt: Option<JwtTokens>,
    /// The cost of new bcrypt hashes, 4 to 31: the logarithm of the rounds.
    pub bcrypt_cost: u32,
    /// Bytes of one client request, 1.5 MiB; [`REQUEST_BYTES_MAX`] at most.
    pub max_request_bytes: usize,
    /// Requests in flight of one connection. `u32::MAX`, etcd's default, stands for 4,096.
    pub max_concurrent_streams: u32,
    /// Requests a second of one client connection and of one user; no limits by default.
    pub rate_limits: RateLimits,
    /// The least interval of a gRPC client's PINGs while it has a request, in milliseconds, 5,000;
    /// a client that pings more often is disconnected. 0 stands for five minutes, as in grpc-go.
    pub grpc_keepalive_min_ms: u64,
    /// Milliseconds of silence after which a gRPC client is pinged, two hours.
    pub grpc_keepalive_interval_ms: u64,
    /// Milliseconds for the answer to that PING, 20,000. With 0 here or as the interval, both have
    /// their defaults, as in etcd.
    pub grpc_keepalive_timeout_ms: u64,
    /// Milliseconds after which a request with one answer is logged as slow, 300.
    pub warning_unary_request_ms: u64,
    /// Milliseconds after which a batch of entries that is applied is logged as slow, 100.
    pub warning_apply_ms: u64,
    /// `--metrics=extensive`: also the durations of gRPC calls, and without auth the top prefixes.
    pub extensive_metrics: bool,
    /// OpenTelemetry's spans of gRPC calls, and their collector; `None` for no spans.
    pub tracing: Option<TracingConfig>,
    /// Serve profiles of the process on the client port.
    pub enable_pprof: bool,
    /// The command line of the process, for `/debug/vars`.
    pub command_line: Vec<String>,
    /// `--cors` and `--host-whitelist`: what the client port accepts, by default all.
    pub access: Access,

    /// Serve the v2 HTTP API. On by default, unlike in etcd 3.4, since Deis uses it.
    pub enable_v2: bool,
    /// Milliseconds for which a new leader keeps overdue keys of the v2 API, so that their owners
    /// can renew them. 20 s: longer than the heartbeats of Deis (10 s) and fleet (15 s).
    pub v2_ttl_grace_ms: u64,

    /// The storage engine of the key space.
    pub storage_engine: StorageEngine,
    /// Milliseconds between two background commits of the engine, 100; the log is durable before.
    pub flush_interval_ms: u64,
    /// Applied records after which a commit is started early, 10,000.
    pub flush_records: usize,
    /// Skip every fsync. A crash loses data; for tests that do not crash.
    pub unsafe_no_fsync: bool,
    /// Be a release that understands commands up to this number; for tests of upgrades.
    pub command_version: u32,
}

/// etcd's default: 2 GiB.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;

/// etcd's `maxElectionMs`.
pub const ELECTION_MS_MAX: u64 = 50_000;

/// The largest `max_request_bytes`. A peer envelope of at most `MESSAGE_BYTES_MAX` holds up to 1
/// MiB beside a request, and the fields around both.
pub const REQUEST_BYTES_MAX: usize = crate::peer::MESSAGE_BYTES_MAX - (4 << 20);

impl Config {
    /// A cluster of one, with etcd's defaults and without ports.
    pub fn single(name: &str, data_dir: impl Into<PathBuf>) -> Config {
        let peer = Url::http("localhost", 2380);
        Config {
            name: name.to_owned(),
            data_dir: data_dir.into(),
            wal_dir: None,
            listen_peer_urls: Vec::new(),
            initial_advertise_peer_urls: vec![peer.clone()],
            peer_tls: PeerTlsFiles::default(),
            advertise_client_urls: Vec::new(),
            initial_cluster: vec![(name.to_owned(), peer)],
            initial_cluster_state: InitialClusterState::New,
            must_be_vouched_for: false,
            initial_cluster_token: "etcd-cluster".to_owned(),
            strict_reconfig_check: true,
            max_learners: 1,
            force_new_cluster: false,
            heartbeat_ms: 100,
            election_ms: 1000,
            initial_election_tick_advance: true,
            pre_vote: true,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            quota_bytes: QUOTA_BYTES_DEFAULT,
            bootstrap_defrag_bytes: 0,
            corruption: CorruptionChecks::default(),
            auto_compaction: None,
            max_txn_ops: 128,
            watch_progress_interval_ms: 600_000,
            client_cert_auth: false,
            auth_token_ttl_s: 300,
            jwt: None,
            bcrypt_cost: 10,
            max_request_bytes: 1_572_864,
            max_concurrent_streams: u32::MAX,
            rate_limits: RateLimits::default(),
            grpc_keepalive_min_ms: 5_000,
            grpc_keepalive_interval_ms: 2 * 60 * 60 * 1_000,
            grpc_keepalive_timeout_ms: 20_000,
            warning_unary_request_ms: 300,
            warning_apply_ms: 100,
            extensive_metrics: false,
            tracing: None,
            enable_pprof: false,
            command_line: Vec::new(),
            access: Access::default(),
            storage_engine: StorageEngine::DEFAULT,
            enable_v2: true,
            v2_ttl_grace_ms: 20_000,
            flush_interval_ms: 100,
            flush_records: 10_000,
            unsafe_no_fsync: false,
            command_version: COMMAND_VERSION,
        }
    }

    /// Checks that need neither another process nor a name service. `Store::open` runs them too,
    /// so an embedder gets the same errors as the command line.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_urls()?;
        if let Some(tracing) = &self.tracing {
            tracing.endpoint()?;
        }
        if self.heartbeat_ms == 0 {
            return Err(ConfigError::Heartbeat(self.heartbeat_ms));
        }
        if self.election_ms == 0 {
            return Err(ConfigError::Election(self.election_ms));
        }
        if self.election_ms < self.heartbeat_ms.saturating_mul(5) {
            return Err(ConfigError::ElectionTooShort(
                self.election_ms,
                self.heartbeat_ms,
            ));
        }
        if ELECTION_MS_MAX < self.election_ms {
            return Err(ConfigError::ElectionTooLong(
                self.election_ms,
                ELECTION_MS_MAX,
            ));
        }
        if self.snapshot_count == 0 {
            return Err(ConfigError::Zero("--snapshot-count"));
        }
        if self.max_txn_ops == 0 {
            return Err(ConfigError::Zero("--max-txn-ops"));
        }
        if self.max_request_bytes == 0 {
            return Err(ConfigError::Zero("--max-request-bytes"));
        }
        if REQUEST_BYTES_MAX < self.max_request_bytes {
            return Err(ConfigError::RequestTooLarge(
                self.max_request_bytes,
                REQUEST_BYTES_MAX,
            ));
        }
        Ok(())
    }

    fn validate_urls(&self) -> Result<(), ConfigError> {
        check_bindable(&self.listen_peer_urls)?;
        check_hosts(
            "--initial-advertise-peer-urls",
            &self.initial_advertise_peer_urls,
        )?;
        check_hosts("--advertise-client-urls", &self.advertise_client_urls)
    }
}

/// Listeners are bound to addresses, never to names, since the address of a name can change.
/// etcd's rule.
pub fn check_bindable(urls: &[Url]) -> Result<(), ConfigError> {
    match urls.iter().find(|url| !url.is_bindable()) {
        Some(url) => Err(ConfigError::NotBindable(url.clone())),
        None => Ok(()),
    }
}

fn check_hosts(flag: &'static str, urls: &[Url]) -> Result<(), ConfigError> {
    match urls.iter().find(|url| url.host().is_empty()) {
        Some(url) => Err(ConfigError::NoHost(flag, url::join(urls), url.clone())),
        None => Ok(()),
    }
}

/// A configuration that cannot work. The texts begin as etcd's and end with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A host name where an IP address is required.
    #[error(
        "expected IP in URL for binding ({0}); listen on an IP address, on localhost, or on \
         0.0.0.0 for all"
    )]
    NotBindable(Url),
    /// A URL without a host, which other members could not dial.
    #[error(
        "{0} \"{1}\" must be \"host:port\" (unexpected empty host ({2})); give the host that \
         others reach this member by"
    )]
    NoHost(&'static str, String, Url),
    /// Zero heartbeat.
    #[error("--heartbeat-interval must be >0 (set to {0}ms)")]
    Heartbeat(u64),
    /// Zero election timeout.
    #[error("--election-timeout must be >0 (set to {0}ms)")]
    Election(u64),
    /// The election timeout is too close to the heartbeat interval.
    #[error(
        "--election-timeout[{0}ms] should be at least as 5 times as --heartbeat-interval[{1}ms]; \
         raise the one or lower the other"
    )]
    ElectionTooShort(u64, u64),
    /// The election timeout is above etcd's limit.
    #[error("--election-timeout[{0}ms] is too long, and should be set less than {1}ms")]
    ElectionTooLong(u64, u64),
    /// Spans cannot be sent there.
    #[error("--distributed-tracing-address: {0}; write the collector's host:port")]
    Collector(String),
    /// A limit of zero, which would refuse every request.
    #[error("{0} must be >0; leave it out for the default")]
    Zero(&'static str),
    /// A request of that size would not fit into a message between members.
    #[error(
        "--max-request-bytes[{0} bytes] is too large: one message between members carries a \
         request of {1} bytes at most"
    )]
    RequestTooLarge(usize, usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Config), expected: &str) {
        let mut config = Config::single("a", "unused");
        assert_eq!(config.validate(), Ok(()));
        change(&mut config);
        let error = config.validate().expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    fn urls(text: &str) -> Vec<Url> {
        Url::parse_list(text).expect(text)
    }

    #[test]
    fn what_cannot_work_is_refused_in_etcds_words() {
        check(
            |c| c.heartbeat_ms = 0,
            "--heartbeat-interval must be >0 (set to 0ms)",
        );
        check(
            |c| c.election_ms = 0,
            "--election-timeout must be >0 (set to 0ms)",
        );
        check(
            |c| c.heartbeat_ms = 300,
            "--election-timeout[1000ms] should be at least as 5 times as \
             --heartbeat-interval[300ms]",
        );
        check(
            |c| c.election_ms = 60_000,
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        );
        check(
            |c| c.listen_peer_urls = urls("http://example.com:2380"),
            "expected IP in URL for binding (http://example.com:2380)",
        );
        check(
            |c| c.advertise_client_urls = urls("http://:2379"),
            "--advertise-client-urls \"http://:2379\" must be \"host:port\"",
        );
        check(|c| c.max_txn_ops = 0, "--max-txn-ops must be >0");
        check(
            |c| c.max_request_bytes = REQUEST_BYTES_MAX + 1,
            "--max-request-bytes[62914561 bytes] is too large",
        );
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let mut config = Config::single("a", "unused");
        config.heartbeat_ms = 200;
        assert_eq!(config.validate(), Ok(()));
        config.election_ms = ELECTION_MS_MAX;
        config.max_request_bytes = REQUEST_BYTES_MAX;
        assert_eq!(config.validate(), Ok(()));
    }
}
