//! Why values that are well written cannot be taken.

use keelson_store::config::{ConfigError, Url};

/// Flags that are well written and cannot work. Exit status 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    /// The store's own checks.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A feature that is not built.
    #[error("--{0} is not supported yet; {1}")]
    Unsupported(&'static str, &'static str),
    /// etcd's rule: listen addresses that are set need advertised ones beside them.
    #[error(
        "--advertise-client-urls is required when --listen-client-urls is set explicitly; \
         when listening on specific address(es), this process must advertise accessible url(s) \
         to each connected client"
    )]
    AdvertiseMissing,
    /// A listener or peer URL has the scheme of TLS.
    #[error(
        "{0} in --{1} needs TLS between members, which is not supported yet; use http:// on a \
         network you trust"
    )]
    Secure(Url, &'static str),
    /// etcd's words, and the flags.
    #[error(
        "cannot listen on TLS for {0}: KeyFile and CertFile are not presented; give --cert-file and \
         --key-file"
    )]
    NoCertificate(Url),
    /// One without the other.
    #[error("--{0} and --{1} belong together: give both or neither")]
    HalfCertificate(&'static str, &'static str),
    /// etcd would trust whatever the system trusts.
    #[error("--client-cert-auth needs --trusted-ca-file: whose certificates clients must have")]
    NoClientCa,
    /// `--initial-cluster` cannot be read.
    #[error(
        "error setting up initial cluster: {0}; write --initial-cluster as name=http://host:2380,..."
    )]
    Cluster(String),
    /// What browsers send as `Origin` is a scheme, a host and perhaps a port.
    #[error("\"{0}\" in --cors is no origin; write https://host:port,... or *")]
    Origin(String),
    /// A value that etcd does not have.
    #[error("unknown auto-compaction-mode \"{0}\"; choose periodic or revision")]
    CompactionMode(String),
}
