//! `keelson grpc-proxy start`: etcd's flags, our proxy. It coalesces and caches nothing.

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
use crate::signals::{Signals, Stop};

/// Forward gRPC and HTTP requests to members.
#[derive(Debug, Parser)]
#[command(name = "grpc-proxy", bin_name = "keelson grpc-proxy")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start the proxy.
    Start(Start),
}

#[derive(Debug, clap::Args)]
struct Start {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:23790", value_parser = super::address)]
    listen_addr: String,
    /// Comma separated list of members' client addresses.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// etcd's; nothing is kept here.
    #[arg(long, hide = true)]
    data_dir: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    namespace: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    resolver_prefix: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    resolver_ttl: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    advertise_client_url: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    metrics_addr: Option<String>,
    /// DNS domain whose SRV records name the members.
    #[arg(long)]
    discovery_srv: Option<String>,
    /// Suffix of the service that is looked up there.
    #[arg(long, default_value = "")]
    discovery_srv_name: String,
    /// Streams at a time on one connection (4294967295: 4096).
    #[arg(long, default_value_t = u32::MAX)]
    max_concurrent_streams: u32,
    /// How often a connection that rests is pinged.
    #[arg(long, default_value = "2h", value_parser = crate::flags::duration)]
    grpc_keepalive_interval: Duration,
    /// How long the answer to that may take.
    #[arg(long, default_value = "20s", value_parser = crate::flags::duration)]
    grpc_keepalive_timeout: Duration,
    #[command(flatten)]
    etcds: Etcds,
    /// The certificate that members are shown.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Whose certificates members must have; whomever the system trusts if not given.
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// The certificate that clients are shown, who then must speak TLS.
    #[arg(long, requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its private key.
    #[arg(long, requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Whose certificates clients must have.
    #[arg(long, requires = "cert_file")]
    trusted_ca_file: Option<PathBuf>,
    /// Not offered.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_skip_tls_verify: Option<String>,
    /// Not offered.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    auto_tls: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    client_crl_file: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    experimental_leasing_prefix: Option<String>,
    /// Not offered.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    experimental_serializable_ordering: Option<String>,
    /// Not offered.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_pprof: Option<String>,
}

/// etcd's flags that change nothing here.
#[derive(Debug, clap::Args)]
struct Etcds {
    /// Records without TLS are taken.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_discovery: Option<String>,
    /// Members say how much they take.
    #[arg(long, hide = true)]
    max_send_bytes: Option<u64>,
    /// Members say how much they take.
    #[arg(long, hide = true)]
    max_recv_bytes: Option<u64>,
    /// Clients may ping as often as the bounds of the port allow.
    #[arg(long, hide = true)]
    grpc_keepalive_min_time: Option<String>,
    /// Nothing is signed here.
    #[arg(long, hide = true)]
    self_signed_cert_validity: Option<u64>,
    /// Its log is for operators.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    debug: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
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
    /// etcd's words. Members with authentication take the name for a user's, for all clients alike.
    #[error("cert has non empty Common Name ({0})")]
    CommonName(String),
    #[error("--{0} is not offered: {1}")]
    NotOffered(&'static str, &'static str),
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let words = super::flags_last(words, &Arguments::command());
    let What::Start(start) = Arguments::parse_from(words).what;
    super::run(
        "grpc-proxy start",
        Builder::new_current_thread(),
        start.run(),
    )
}

impl Start {
    async fn run(self) -> Result<Option<Stop>, Fault> {
        self.refuse_what_is_not_offered()?;
        let (domain, name) = (self.discovery_srv.as_deref(), &self.discovery_srv_name);
        let endpoints = super::endpoints(domain, name, &self.endpoints).await?;
        let config = self.config(&endpoints)?;
        self.refuse_common_name()?;
        let tls = self.tls_of_clients().map(ServerTls::new).transpose()?;
        let mut signals = Signals::catch().map_err(Fault::Signals)?;
        let (socket, at) = super::listen(&self.listen_addr).await?;
        let listener = Listener::new(socket, tls);
        info!(address = %at, ?endpoints, "listening for gRPC proxy client requests");
        tokio::spawn(pages::keep_few());
        tokio::spawn(crate::heap::give_back());
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = async {
            let served =
                keelson_proxy::serve(config, vec![listener], crate::notify::ready, stopped).await;
            served.map_err(Fault::from)
        };
        super::until_stopped(serving, stop, &mut signals).await
    }

    fn config(&self, endpoints: &[String]) -> Result<ProxyConfig, TlsError> {
        let files = ClientTlsFiles {
            identity: self.cert.clone().zip(self.key.clone()),
            ca: self.cacert.clone(),
        };
        // As etcd's client: where there is something to be secure with, it is.
        let secure = files != ClientTlsFiles::default();
        let urls = endpoints.iter().map(|one| url_of(one, secure));
        let mut config = ProxyConfig::new(MembersFrom::Clients(urls.collect()));
        config.client_tls = ClientTls::new(files)?;
        config.limits = config.limits.with_streams(self.max_concurrent_streams);
        // Zero is the default, as for grpc-go.
        if !self.grpc_keepalive_interval.is_zero() {
            config.limits.keepalive_interval = Some(self.grpc_keepalive_interval);
        }
        if !self.grpc_keepalive_timeout.is_zero() {
            config.limits.keepalive_timeout = self.grpc_keepalive_timeout;
        }
        Ok(config)
    }

    fn refuse_common_name(&self) -> Result<(), Fault> {
        let name = self.cert.as_deref().map(keelson_proxy::common_name);
        match name.transpose()?.flatten() {
            Some(name) => Err(Fault::CommonName(name)),
            None => Ok(()),
        }
    }

    fn tls_of_clients(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            cert: self.cert_file.clone()?,
            key: self.key_file.clone()?,
            client_ca: self.trusted_ca_file.clone(),
        })
    }

    fn refuse_what_is_not_offered(&self) -> Result<(), Fault> {
        let keys = "requests are passed on as they are";
        let resolver = "give clients the proxies' addresses";
        let yes = |given: &Option<String>| given.clone().filter(|text| text != "false");
        let order = "reads are passed on as they are asked";
        for (given, flag, why) in [
            (&self.namespace, "namespace", keys),
            (&self.resolver_prefix, "resolver-prefix", resolver),
            (&self.resolver_ttl, "resolver-ttl", resolver),
            (&self.advertise_client_url, "advertise-client-url", resolver),
            (
                &self.metrics_addr,
                "metrics-addr",
                "/metrics is on the listening port",
            ),
            (
                &yes(&self.insecure_skip_tls_verify),
                "insecure-skip-tls-verify",
                "name the members' authority in --cacert",
            ),
            (
                &yes(&self.auto_tls),
                "auto-tls",
                "give a certificate in --cert-file and --key-file",
            ),
            (
                &self.client_crl_file,
                "client-crl-file",
                "lists of revoked certificates are not read",
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
                "this is no Go program",
            ),
        ] {
            if given.is_some() {
                return Err(Fault::NotOffered(flag, why));
            }
        }
        Ok(())
    }
}

/// Endpoints are `host:port` or URLs, as etcd's are.
fn url_of(endpoint: &str, secure: bool) -> String {
    match (endpoint.contains("://"), secure) {
        (true, _) => endpoint.to_owned(),
        (false, true) => format!("https://{endpoint}"),
        (false, false) => format!("http://{endpoint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_need_no_scheme() {
        assert_eq!(url_of("127.0.0.1:2379", false), "http://127.0.0.1:2379");
        assert_eq!(url_of("localhost:2379", true), "https://localhost:2379");
        for secure in [false, true] {
            assert_eq!(url_of("https://a:1", secure), "https://a:1");
            assert_eq!(url_of("http://a:1", secure), "http://a:1");
        }
    }

    /// All of etcd 3.4's and 3.5's are known; some are refused later, with a reason.
    #[test]
    fn etcds_flags_are_taken() {
        let line = "grpc-proxy start --listen-addr :1 --discovery-srv d --discovery-srv-name n \
            --insecure-discovery --metrics-addr a --endpoints a,b --advertise-client-url u \
            --resolver-prefix p --resolver-ttl 1 --namespace n --enable-pprof=true --data-dir d \
            --max-send-bytes 1 --max-recv-bytes 1 --grpc-keepalive-min-time 5s \
            --grpc-keepalive-interval 2h --grpc-keepalive-timeout 20s --cert c --key k --cacert c \
            --insecure-skip-tls-verify=false --cert-file c --key-file k --trusted-ca-file t --auto-tls \
            --client-crl-file f --self-signed-cert-validity 1 --experimental-serializable-ordering \
            --experimental-leasing-prefix p --debug --max-concurrent-streams 7";
        let What::Start(start) = Arguments::try_parse_from(line.split_whitespace())
            .expect("etcd takes them")
            .what;
        assert!(start.refuse_what_is_not_offered().is_err());
        let config = start.config(&[]);
        assert!(config.is_err(), "there is no such certificate");
        let line = "grpc-proxy start --enable-pprof=false --max-concurrent-streams 7";
        let What::Start(start) = Arguments::try_parse_from(line.split_whitespace())
            .expect("etcd takes them")
            .what;
        start
            .refuse_what_is_not_offered()
            .expect("nothing of it is asked");
        let limits = start.config(&[]).expect("no files").limits;
        assert_eq!(limits.concurrent_streams_max, 7);
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
