//! `keelson discovery serve` and `keelson discovery new`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};
use keelson_discovery::service::{self, HttpRegistry, ServiceOptions};
use keelson_discovery::{DiscoveryError, HttpError, Size, SizeError};
use keelson_proxy::{ClientTls, ClientTlsFiles, ServerTls, TlsError, TlsFiles};
use keelson_store::OpenError;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::embedded::Embedded;
use crate::environment;
use crate::signals::{self, Signals, Stop};

/// The service's default address, for `discovery serve` and `discovery new`.
const SERVICE: &str = "http://127.0.0.1:8087";

/// The default size; the same as discovery.etcd.io's.
const SIZE_DEFAULT: &str = "3";

/// A self-hosted discovery.etcd.io: a cluster comes up from one URL.
#[derive(Debug, Parser)]
#[command(name = "discovery", bin_name = "keelson discovery")]
struct DiscoveryArguments {
    #[command(subcommand)]
    action: DiscoveryAction,
}

#[derive(Debug, Subcommand)]
enum DiscoveryAction {
    /// Run the service.
    Serve(Serve),
    /// Make a token for a new cluster and print its URL, to be given to every host as --discovery.
    New(New),
}

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
struct Serve {
    /// Address to listen on; :8087 is all interfaces [env: DISC_ADDR] [default: 127.0.0.1:8087].
    #[arg(short, long, value_parser = super::address)]
    addr: Option<String>,
    /// Prefix of the URLs of new tokens [env: DISC_HOST] [default: the Host of the request].
    #[arg(short = 'h', long)]
    host: Option<String>,
    /// Keep tokens in this etcd's v2 API instead of the built-in store [env: DISC_ETCD].
    #[arg(short, long)]
    etcd: Option<String>,
    /// Data directory of the built-in store.
    #[arg(long, default_value = "discovery.keelson")]
    data_dir: PathBuf,
    /// TLS certificate of the service; with it hosts must use https.
    #[arg(long, requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Private key of --cert-file.
    #[arg(long, requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// CA that hosts' certificates must be signed by.
    #[arg(long, requires = "cert_file")]
    trusted_ca_file: Option<PathBuf>,
    /// Days until a token expires; 0 is never.
    #[arg(long, default_value_t = 7)]
    token_days: u32,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, clap::Args)]
struct New {
    /// URL of the discovery service.
    #[arg(long, default_value = SERVICE)]
    service: String,
    /// CA that the service's certificate must be signed by [default: the system's CAs].
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// TLS certificate presented to the service.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Number of members of the cluster [env: DEIS_NUM_INSTANCES] [default: 3].
    #[arg(long)]
    size: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum DiscoveryCommandError {
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Store(#[from] OpenError),
    #[error("{0}")]
    Etcd(#[from] HttpError),
    #[error("{0}")]
    Discovery(#[from] DiscoveryError),
    #[error("{0}")]
    Size(#[from] SizeError),
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <DiscoveryArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    match DiscoveryArguments::parse_from(words).action {
        DiscoveryAction::Serve(serve) => {
            // The service may contain a store, which needs several threads.
            super::run("discovery serve", Builder::new_multi_thread(), serve.run())
        }
        DiscoveryAction::New(new) => {
            super::run("discovery new", Builder::new_current_thread(), new.run())
        }
    }
}

impl Serve {
    async fn run(self) -> Result<Option<Stop>, DiscoveryCommandError> {
        let mut signals = Signals::catch().map_err(DiscoveryCommandError::Signals)?;
        if self.cert_file.is_some() {
            signals::remember_hangup().map_err(DiscoveryCommandError::Signals)?;
        }
        let addr = self
            .addr
            .clone()
            .or_else(|| environment::variable("DISC_ADDR"));
        let addr = addr.unwrap_or_else(|| "127.0.0.1:8087".to_owned());
        let (listener, at) = super::listen(&addr).await?;
        info!(address = %at, "serving discovery");
        let etcd = self
            .etcd
            .clone()
            .or_else(|| environment::variable("DISC_ETCD"));
        let options = self.options()?;
        tokio::spawn(crate::certificates::care(Vec::new()));
        match etcd {
            Some(url) => {
                let registry = Arc::new(HttpRegistry::new(&url, Duration::from_secs(1))?);
                serve(listener, registry, options, &mut signals).await
            }
            None => {
                let registry = Arc::new(Embedded::open(&self.data_dir).await?);
                let served = serve(listener, Arc::clone(&registry), options, &mut signals).await;
                registry.close().await;
                served
            }
        }
    }

    fn options(&self) -> Result<ServiceOptions, TlsError> {
        let day = Duration::from_secs(24 * 60 * 60);
        let own = self.cert_file.clone().zip(self.key_file.clone());
        let files = own.map(|(cert, key)| TlsFiles {
            client_ca: self.trusted_ca_file.clone(),
            http1_only: true,
            ..TlsFiles::new(cert, key)
        });
        Ok(ServiceOptions {
            tls: files.map(ServerTls::new).transpose()?,
            prefix: self
                .host
                .clone()
                .or_else(|| environment::variable("DISC_HOST")),
            token_ttl: (0 < self.token_days).then(|| day * self.token_days),
            ..ServiceOptions::default()
        })
    }
}

async fn serve<R: service::Registry>(
    listener: TcpListener,
    registry: Arc<R>,
    options: ServiceOptions,
    signals: &mut Signals,
) -> Result<Option<Stop>, DiscoveryCommandError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    crate::notify::ready();
    tokio::spawn(crate::heap::trim_after_bursts());
    let serving = async {
        let served = service::serve(listener, registry, options, stopped).await;
        served.map_err(DiscoveryCommandError::from)
    };
    super::until_stopped(serving, stop, signals).await
}

impl New {
    async fn run(self) -> Result<Option<Stop>, DiscoveryCommandError> {
        let size: Size = match self.size {
            Some(text) => text.parse()?,
            None => match environment::deis_num_instances() {
                Some(deis) => deis?,
                None => SIZE_DEFAULT.parse()?,
            },
        };
        if let Some(warning) = size.warning() {
            warn!("{warning}");
        }
        let tls = ClientTls::new(ClientTlsFiles::new(self.cert.zip(self.key), self.cacert))?;
        let url = keelson_discovery::new_token(&self.service, size, &tls).await?;
        println!("{}", url.as_str());
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        DiscoveryArguments::command().debug_assert();
    }
}
