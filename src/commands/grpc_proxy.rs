//! `keelson grpc-proxy start`: etcd's flags, our proxy. It coalesces and caches nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
    /// Not offered.
    #[arg(long, hide = true)]
    discovery_srv: Option<String>,
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
    #[arg(long, hide = true)]
    insecure_skip_tls_verify: bool,
    /// Not offered.
    #[arg(long, hide = true)]
    auto_tls: bool,
    /// Not offered.
    #[arg(long, hide = true)]
    client_crl_file: Option<String>,
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
    #[error("--{0} is not offered: {1}")]
    NotOffered(&'static str, &'static str),
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
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
        let config = self.config()?;
        let tls = self.tls_of_clients().map(ServerTls::new).transpose()?;
        let mut signals = Signals::catch().map_err(Fault::Signals)?;
        let (socket, at) = super::listen(&self.listen_addr).await?;
        let listener = Listener { socket, tls };
        info!(address = %at, endpoints = ?self.endpoints, "listening for gRPC proxy client requests");
        tokio::spawn(pages::keep_few());
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = async {
            let served = keelson_proxy::serve(config, vec![listener], || {}, stopped).await;
            served.map_err(Fault::from)
        };
        super::until_stopped(serving, stop, &mut signals).await
    }

    fn config(&self) -> Result<ProxyConfig, TlsError> {
        let files = ClientTlsFiles {
            identity: self.cert.clone().zip(self.key.clone()),
            ca: self.cacert.clone(),
        };
        // As etcd's client: where there is something to be secure with, it is.
        let secure = files != ClientTlsFiles::default();
        let urls = self.endpoints.iter().map(|one| url_of(one, secure));
        let mut config = ProxyConfig::new(MembersFrom::Clients(urls.collect()));
        config.client_tls = ClientTls::new(files)?;
        Ok(config)
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
        let yes = || Some(String::new());
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
                &self.discovery_srv,
                "discovery-srv",
                "name the members in --endpoints",
            ),
            (
                &self.insecure_skip_tls_verify.then(yes).flatten(),
                "insecure-skip-tls-verify",
                "name the members' authority in --cacert",
            ),
            (
                &self.auto_tls.then(yes).flatten(),
                "auto-tls",
                "give a certificate in --cert-file and --key-file",
            ),
            (
                &self.client_crl_file,
                "client-crl-file",
                "lists of revoked certificates are not read",
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

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
