//! Errors of flags that parse and cannot be used.

use keelson_store::config::{AllowedNames, ConfigError, Url};
use keelson_store::edge::ParametersError;

use crate::bucket::BucketError;

/// Flags that parse and cannot be used. Exit status 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    /// The store's own checks.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A feature that is not implemented.
    #[error("--{0} is not supported yet; {1}")]
    Unsupported(&'static str, &'static str),
    /// etcd's rule: listen addresses that are set explicitly need advertised ones.
    #[error(
        "--advertise-client-urls is required when --listen-client-urls is set explicitly; \
         when listening on specific address(es), this process must advertise accessible url(s) \
         to each connected client"
    )]
    AdvertiseMissing,
    /// etcd's text, and the flags.
    #[error(
        "cannot listen on TLS for {0}: KeyFile and CertFile are not presented; give \
         --{1}cert-file and --{1}key-file"
    )]
    NoCertificate(Url, &'static str),
    /// One of the two flags is missing.
    #[error("--{0} and --{1} must be given together")]
    HalfCertificate(&'static str, &'static str),
    /// etcd would trust all CAs of the system.
    #[error("--{0} needs --{1}, the CA that client certificates are signed by")]
    NoClientCa(&'static str, &'static str),
    /// etcd's text.
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={:?}, hostnames={:?}); give \
         --peer-cert-allowed-cn or --peer-cert-allowed-hostname",
        .0.common_names,
        .0.hosts
    )]
    AllowedNames(AllowedNames),
    /// etcd's texts.
    #[error("{0}")]
    TlsParameters(ParametersError),
    /// `--backup-interval` or `--backup-keep` is too small.
    #[error("--backup-interval is 1s or more, and --backup-keep 1 or more")]
    Backup,
    /// `--backup-dir` is a bucket that cannot be used.
    #[error("--backup-dir: {0}")]
    BackupTarget(BucketError),
    /// `--initial-cluster` cannot be parsed.
    #[error(
        "error setting up initial cluster: {0}; write --initial-cluster as \
         name=http://host:2380,..."
    )]
    Cluster(String),
    /// A browser sends a scheme, a host and an optional port as `Origin`.
    #[error("\"{0}\" in --cors is not an origin; write https://host:port,... or *")]
    Origin(String),
    /// etcd's text.
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery\" or \"discovery-srv\""
    )]
    Bootstrap,
    /// etcd's text, or that of a key that cannot be used.
    #[error("--auth-token: {0}")]
    AuthToken(String),
    /// A gate that etcd does not have, or one without a value.
    #[error("unrecognized feature gate: {0}; write --feature-gates NAME=true,NAME=false")]
    Gate(String),
    /// etcd's text, and the flag.
    #[error(
        "tracing sampling rate must be less than 1000000; --distributed-tracing-sampling-rate is \
         the number of samples of a million calls"
    )]
    SamplingRate,
    /// etcd's text.
    #[error("--{0} must be >0 (set to 0s)")]
    ZeroTime(&'static str),
    /// etcd's text.
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    HalfDiscovery,
    /// etcd's text.
    #[error("--discovery-endpoints must not contain empty endpoints")]
    EmptyEndpoint,
    /// etcd's text.
    #[error("undefined auto-compaction-mode; choose periodic or revision")]
    NoCompactionMode,
    /// A mode that etcd does not have.
    #[error("unknown auto-compaction-mode \"{0}\"; choose periodic or revision")]
    CompactionMode(String),
    /// A retention that is neither a number nor a duration. etcd's text.
    #[error(
        "error parsing CompactionRetention: time: invalid duration \"{0}\"; write a number of \
         hours or of revisions, or a duration such as 30m"
    )]
    Retention(String),
}
