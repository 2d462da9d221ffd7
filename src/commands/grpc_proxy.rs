//! `keelson grpc-proxy start`: etcd's flags, our proxy. It neither coalesces watches nor caches.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use keelson_discovery::srv;
use keelson_proxy::{
    ClientTls, ClientTlsFiles, Listener, MembersFrom, ProxyConfig, ProxyError, ServerTls, TlsError,
    TlsFiles,
};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::info;

use crate::pages;
use crate::signals::{self, Signals, Stop};

/// Forward gRPC and HTTP requests to members.
#[derive(Debug, Parser)]
#[command(name = "grpc-proxy", bin_name = "keelson grpc-proxy")]
struct GrpcProxyArguments {
    #[command(subcommand)]
    action: GrpcProxyAction,
}

#[derive(Debug, Subcommand)]
enum GrpcProxyAction {
    /// Start the proxy.
    Start(GrpcProxyStart),
}

#[derive(Debug, clap::Args)]
struct GrpcProxyStart {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:23790", value_parser = super::address)]
    listen_addr: String,
    /// Comma separated list of members' client addresses.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// etcd's; this proxy stores nothing.
    #[arg(long, hide = true)]
    data_dir: Option<String>,
    /// Not supported.
    #[arg(long, hide = true)]
    namespace: Option<String>,
    /// Not supported.
    #[arg(long, hide = true)]
    resolver_prefix: Option<String>,
    /// Not supported.
    #[arg(long, hide = true)]
    resolver_ttl: Option<String>,
    /// Not supported.
    #[arg(long, hide = true)]
    advertise_client_url: Option<String>,
    /// Not supported.
    #[arg(long, hide = true)]
    metrics_addr: Option<String>,
    /// DNS domain whose SRV records list the members.
    #[arg(long)]
    discovery_srv: Option<String>,
    /// Suffix of the SRV service name.
    #[arg(long, default_value = "")]
    discovery_srv_name: String,
    /// Maximum concurrent streams of a connection (4294967295 stands for 4096).
    #[arg(long, default_value_t = u32::MAX)]
    max_concurrent_streams: u32,
    /// Interval of pings on an idle connection.
    #[arg(long, default_value = "2h", value_parser = crate::flags::duration)]
    grpc_keepalive_interval: Duration,
    /// Timeout of a ping.
    #[arg(long, default_value = "20s", value_parser = crate::flags::duration)]
    grpc_keepalive_timeout: Duration,
    #[command(flatten)]
    ignored: IgnoredFlags,
    /// TLS certificate presented to members.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// CA that members' certificates must be signed by [default: the system's CAs].
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// TLS certificate presented to clients; with it clients must use TLS.
    #[arg(long, requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Private key of --cert-file.
    #[arg(long, requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// CA that clients' certificates must be signed by.
    #[arg(long, requires = "cert_file")]
    trusted_ca_file: Option<PathBuf>,
    /// Not supported.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    insecure_skip_tls_verify: Option<String>,
    /// Not supported.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    auto_tls: Option<String>,
    /// Revocation lists of --trusted-ca-file.
    #[arg(long, requires = "trusted_ca_file")]
    client_crl_file: Option<PathBuf>,
    /// Not supported.
    #[arg(long, hide = true)]
    experimental_leasing_prefix: Option<String>,
    /// Not supported.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    experimental_serializable_ordering: Option<String>,
    /// Not supported.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    enable_pprof: Option<String>,
}

/// etcd's flags that have no effect here.
#[derive(Debug, clap::Args)]
struct IgnoredFlags {
    /// Records without TLS are always accepted.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    insecure_discovery: Option<String>,
    /// Members bound the size.
    #[arg(long, hide = true)]
    max_send_bytes: Option<u64>,
    /// Members bound the size.
    #[arg(long, hide = true)]
    max_recv_bytes: Option<u64>,
    /// The port's own limits on pings apply.
    #[arg(long, hide = true)]
    grpc_keepalive_min_time: Option<String>,
    /// No certificate is generated here.
    #[arg(long, hide = true)]
    self_signed_cert_validity: Option<u64>,
    /// The log level is the operator's choice.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    debug: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum GrpcProxyCommandError {
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Srv(#[from] srv::SrvError),
    /// etcd's text. Members with authentication take the name for a user's, for all clients alike.
    #[error("cert has non empty Common Name ({0})")]
    CommonName(String),
    #[error("--{0} is not supported: {1}")]
    NotOffered(&'static str, &'static str),
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <GrpcProxyArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let words = super::flags_last(words, &GrpcProxyArguments::command());
    let GrpcProxyAction::Start(start) = GrpcProxyArguments::parse_from(words).action;
    super::run(
        "grpc-proxy start",
        Builder::new_current_thread(),
        start.run(),
    )
}

impl GrpcProxyStart {
    async fn run(self) -> Result<Option<Stop>, GrpcProxyCommandError> {
        self.refuse_what_is_not_offered()?;
        let files = [&self.cert, &self.cacert, &self.cert_file];
        if files.into_iter().any(Option::is_some) {
            signals::remember_hangup().map_err(GrpcProxyCommandError::Signals)?;
        }
        let (domain, name) = (self.discovery_srv.as_deref(), &self.discovery_srv_name);
        let endpoints = super::endpoints(domain, name, &self.endpoints).await?;
        let config = self.config(&endpoints)?;
        self.refuse_common_name()?;
        let tls = self.tls_of_clients().map(ServerTls::new).transpose()?;
        let mut signals = Signals::catch().map_err(GrpcProxyCommandError::Signals)?;
        let (socket, at) = super::listen(&self.listen_addr).await?;
        let listener = Listener::new(socket, tls);
        info!(address = %at, ?endpoints, "listening for gRPC proxy client requests");
        tokio::spawn(pages::trim_resident_code());
        tokio::spawn(crate::heap::trim_after_bursts());
        tokio::spawn(crate::certificates::care(Vec::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = async {
            let served =
                keelson_proxy::serve(config, vec![listener], crate::notify::ready, stopped).await;
            served.map_err(GrpcProxyCommandError::from)
        };
        super::until_stopped(serving, stop, &mut signals).await
    }

    fn config(&self, endpoints: &[String]) -> Result<ProxyConfig, TlsError> {
        let identity = self.cert.clone().zip(self.key.clone());
        let files = ClientTlsFiles::new(identity, self.cacert.clone());
        // As in etcd's client: with certificates configured, members are reached over TLS.
        let secure = files != ClientTlsFiles::default();
        let urls = endpoints.iter().map(|one| super::url_of(one, secure));
        let mut config = ProxyConfig::new(MembersFrom::Clients(urls.collect()));
        config.client_tls = ClientTls::new(files)?;
        config.limits = config.limits.with_streams(self.max_concurrent_streams);
        // Zero stands for the default, as in grpc-go.
        if !self.grpc_keepalive_interval.is_zero() {
            config.limits.keepalive_interval = Some(self.grpc_keepalive_interval);
        }
        if !self.grpc_keepalive_timeout.is_zero() {
            config.limits.keepalive_timeout = self.grpc_keepalive_timeout;
        }
        Ok(config)
    }

    fn refuse_common_name(&self) -> Result<(), GrpcProxyCommandError> {
        let name = self.cert.as_deref().map(keelson_proxy::common_name);
        match name.transpose()?.flatten() {
            Some(name) => Err(GrpcProxyCommandError::CommonName(name)),
            None => Ok(()),
        }
    }

    fn tls_of_clients(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            cert: self.cert_file.clone()?,
            key: self.key_file.clone()?,
            client_ca: self.trusted_ca_file.clone(),
            crl: self.client_crl_file.clone(),
            ..TlsFiles::default()
        })
    }

    fn refuse_what_is_not_offered(&self) -> Result<(), GrpcProxyCommandError> {
        let keys = "requests are forwarded unchanged";
        let resolver = "configure clients with the proxies' addresses";
        let yes = |given: &Option<String>| given.clone().filter(|text| text != "false");
        let order = "reads are forwarded unchanged";
        for (given, flag, why) in [
            (&self.namespace, "namespace", keys),
            (&self.resolver_prefix, "resolver-prefix", resolver),
            (&self.resolver_ttl, "resolver-ttl", resolver),
            (&self.advertise_client_url, "advertise-client-url", resolver),
            (
                &self.metrics_addr,
                "metrics-addr",
                "/metrics is served on the listening port",
            ),
            (
                &yes(&self.insecure_skip_tls_verify),
                "insecure-skip-tls-verify",
                "give the CA of the members' certificates as --cacert",
            ),
            (
                &yes(&self.auto_tls),
                "auto-tls",
                "give a certificate with --cert-file and --key-file",
            ),
            (
                &self.experimental_leasing_prefix,
                "experimental-leasing-prefix",
                keys,
            ),
            (
                &yes(&self.experimental_serializable_ordering),
                "experimental-serializable-ordering",
                order,
            ),
            (
                &yes(&self.enable_pprof),
                "enable-pprof",
                "there is no Go runtime to profile",
            ),
        ] {
            if given.is_some() {
                return Err(GrpcProxyCommandError::NotOffered(flag, why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All flags of etcd 3.4 and 3.5 are accepted by the parser; some are refused later, with a
    /// reason.
    #[test]
    fn etcds_flags_are_taken() {
        let line = "grpc-proxy start --listen-addr :1 --discovery-srv d --discovery-srv-name n \
            --insecure-discovery --metrics-addr a --endpoints a,b --advertise-client-url u \
            --resolver-prefix p --resolver-ttl 1 --namespace n --enable-pprof=true --data-dir d \
            --max-send-bytes 1 --max-recv-bytes 1 --grpc-keepalive-min-time 5s \
            --grpc-keepalive-interval 2h --grpc-keepalive-timeout 20s --cert c --key k --cacert \
            c --insecure-skip-tls-verify=false --cert-file c --key-file k --trusted-ca-file t \
            --auto-tls --client-crl-file f --self-signed-cert-validity 1 \
            --experimental-serializable-ordering --experimental-leasing-prefix p --debug \
            --max-concurrent-streams 7";
        let GrpcProxyAction::Start(start) =
            GrpcProxyArguments::try_parse_from(line.split_whitespace())
                .expect("etcd accepts them")
                .action;
        assert!(start.refuse_what_is_not_offered().is_err());
        let config = start.config(&[]);
        assert!(config.is_err(), "there is no such certificate");
        let line = "grpc-proxy start --enable-pprof=false --max-concurrent-streams 7";
        let GrpcProxyAction::Start(start) =
            GrpcProxyArguments::try_parse_from(line.split_whitespace())
                .expect("etcd accepts them")
                .action;
        start
            .refuse_what_is_not_offered()
            .expect("no unsupported feature is requested");
        let limits = start.config(&[]).expect("no files").limits;
        assert_eq!(limits.concurrent_streams_max, 7);
    }

    #[test]
    fn the_command_line_is_sound() {
        GrpcProxyArguments::command().debug_assert();
    }
}
