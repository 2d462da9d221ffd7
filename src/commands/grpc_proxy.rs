//! `keelson grpc-proxy start`: etcd's flags, our proxy. It coalesces and caches nothing.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keelson_proxy::{MembersFrom, ProxyConfig, ProxyError};
use tokio::sync::oneshot;
use tracing::info;

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
    /// Not offered.
    #[arg(long, hide = true)]
    cert_file: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    cert: Option<String>,
    /// Not offered.
    #[arg(long, hide = true)]
    cacert: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    #[error("--{0} is not offered: {1}")]
    NotOffered(&'static str, &'static str),
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let What::Start(start) = Arguments::parse_from(words).what;
    super::run("grpc-proxy start", start.run())
}

impl Start {
    async fn run(self) -> Result<Option<Stop>, Fault> {
        self.refuse_what_is_not_offered()?;
        let mut signals = Signals::catch().map_err(Fault::Signals)?;
        let (listener, at) = super::listen(&self.listen_addr).await?;
        info!(address = %at, endpoints = ?self.endpoints, "listening for gRPC proxy client requests");
        let urls = self.endpoints.iter().map(|one| url_of(one)).collect();
        let config = ProxyConfig::new(MembersFrom::Clients(urls));
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

    fn refuse_what_is_not_offered(&self) -> Result<(), Fault> {
        let keys = "requests are passed on as they are";
        let resolver = "give clients the proxies' addresses";
        let tls = "TLS is a later step";
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
            (&self.cert_file, "cert-file", tls),
            (&self.cert, "cert", tls),
            (&self.cacert, "cacert", tls),
        ] {
            if given.is_some() {
                return Err(Fault::NotOffered(flag, why));
            }
        }
        Ok(())
    }
}

/// Endpoints are `host:port` or URLs, as etcd's are.
fn url_of(endpoint: &str) -> String {
    match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_need_no_scheme() {
        assert_eq!(url_of("127.0.0.1:2379"), "http://127.0.0.1:2379");
        assert_eq!(url_of("localhost:2379"), "http://localhost:2379");
        assert_eq!(url_of("https://a:1"), "https://a:1");
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
