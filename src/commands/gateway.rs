//! `keelson gateway start`: etcd's TCP proxy.

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use keelson_discovery::srv;
use keelson_proxy::{GatewayConfig, GatewayError};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::info;

use crate::pages;
use crate::signals::{Signals, Stop};

/// Forward TCP connections to members without reading them.
#[derive(Debug, Parser)]
#[command(name = "gateway", bin_name = "keelson gateway")]
struct GatewayArguments {
    #[command(subcommand)]
    action: GatewayAction,
}

#[derive(Debug, Subcommand)]
enum GatewayAction {
    /// Start the gateway.
    Start(GatewayStart),
}

#[derive(Debug, clap::Args)]
struct GatewayStart {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:23790", value_parser = super::address)]
    listen_addr: String,
    /// Comma separated list of members' client addresses.
    #[arg(long, default_value = "127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// DNS domain whose SRV records list the members.
    #[arg(long)]
    discovery_srv: Option<String>,
    /// Suffix of the SRV service name.
    #[arg(long, default_value = "")]
    discovery_srv_name: String,
    /// Accepted for etcd's sake: SRV records without TLS are always accepted.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_discovery: Option<String>,
    /// Interval at which an unreachable member is retried.
    #[arg(long, default_value = "1m0s", value_parser = crate::flags::duration)]
    retry_delay: Duration,
    /// Not supported: the gateway does not decrypt, so there is nothing to verify.
    #[arg(long, hide = true)]
    trusted_ca_file: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum GatewayCommandError {
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Gateway(#[from] GatewayError),
    #[error("{0}")]
    Srv(#[from] srv::SrvError),
    #[error(
        "--trusted-ca-file is not supported: the gateway forwards TLS without decrypting it, and \
         does not verify SRV records; clients verify members themselves"
    )]
    Tls,
}

/// The command line.
pub(super) fn command() -> clap::Command {
    <GatewayArguments as clap::CommandFactory>::command()
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let words = super::flags_last(words, &GatewayArguments::command());
    let GatewayAction::Start(start) = GatewayArguments::parse_from(words).action;
    super::run("gateway start", Builder::new_current_thread(), start.run())
}

impl GatewayStart {
    async fn run(self) -> Result<Option<Stop>, GatewayCommandError> {
        if self.trusted_ca_file.is_some() {
            return Err(GatewayCommandError::Tls);
        }
        let mut signals = Signals::catch().map_err(GatewayCommandError::Signals)?;
        let (domain, name) = (self.discovery_srv.as_deref(), &self.discovery_srv_name);
        let endpoints = super::endpoints(domain, name, &self.endpoints).await?;
        let (listener, at) = super::listen(&self.listen_addr).await?;
        info!(address = %at, ?endpoints, "ready to proxy client requests");
        tokio::spawn(pages::trim_resident_code());
        tokio::spawn(crate::heap::trim_after_bursts());
        let config = GatewayConfig {
            retry_delay: self.retry_delay,
            ..GatewayConfig::new(endpoints)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = async {
            let served =
                keelson_proxy::serve_gateway(config, vec![listener], crate::notify::ready, stopped)
                    .await;
            served.map_err(GatewayCommandError::from)
        };
        super::until_stopped(serving, stop, &mut signals).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        GatewayArguments::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_start() {
        for line in [
            "gateway start --listen-addr :1 --insecure-discovery --endpoints=a",
            "gateway --listen-addr :1 --insecure-discovery start --endpoints=a",
            "gateway --endpoints=a --listen-addr :1 --insecure-discovery=true start",
            "gateway --endpoints a --insecure-discovery --listen-addr :1 start",
        ] {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let words = crate::commands::flags_last(&words, &GatewayArguments::command());
            let GatewayAction::Start(start) =
                GatewayArguments::try_parse_from(words).expect(line).action;
            assert_eq!(start.listen_addr, "0.0.0.0:1", "{line}");
            assert_eq!(start.endpoints, ["a"], "{line}");
        }
        // Here `start` is a value, and there is no command.
        let words = ["gateway", "--endpoints", "start"].map(str::to_owned);
        let words = crate::commands::flags_last(&words, &GatewayArguments::command());
        assert!(GatewayArguments::try_parse_from(words).is_err());
    }
}
