//! The commands of the binary other than a host: the discovery service, etcd's two other proxies,
//! the promotion of a proxy's host to a member, the replacement of a member, a diagnosis, and
//! work on files.

mod access;
pub(crate) mod channel;
pub(crate) mod complete;
pub(crate) mod cutover;
pub(crate) mod discovery;
pub(crate) mod doctor;
mod embedded;
pub(crate) mod export;
pub(crate) mod follow;
pub(crate) mod gateway;
pub(crate) mod grpc_proxy;
pub(crate) mod import;
mod joining;
pub(crate) mod man;
mod new_member;
pub(crate) mod promote;
pub(crate) mod replace;
pub(crate) mod top;
pub(crate) mod util;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Command;
use keelson_discovery::srv;
use keelson_store::listen;
use tokio::net::{TcpListener, lookup_host};
use tokio::runtime::Builder;
use tracing::info;

use crate::logging::LogOptions;
use crate::signals::{Signals, Stop};

/// Bound on the time in which open connections may end.
const STOP_MAX: Duration = Duration::from_secs(8);

/// The form of a command's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Simple,
    Json,
}

/// The command lines of the commands that have flags.
fn all() -> [Command; 13] {
    [
        crate::playground::command(),
        discovery::command(),
        doctor::command(),
        top::command(),
        gateway::command(),
        promote::command(),
        replace::command(),
        import::command(),
        follow::command(),
        cutover::command(),
        export::command(),
        util::command(),
        grpc_proxy::command(),
    ]
}

/// Runs a command until it ends or a signal stops it, and prints its error.
fn run<E: std::fmt::Display>(
    name: &str,
    mut threads: Builder,
    work: impl Future<Output = Result<Option<Stop>, E>>,
) -> ExitCode {
    // A log that cannot be installed does not stop the command.
    let _ = LogOptions::fallback().install();
    crate::end_with_stdin();
    let runtime = match threads.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("keelson {name}: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(Some(stop)) => stop.end_process(),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Moves the first subcommand of `command` before all flags: cobra, which etcd's own commands use,
/// accepts `gateway --listen-addr x start`, and clap does not.
fn flags_last(words: &[String], command: &Command) -> Vec<String> {
    let takes_next = |word: &str| {
        let name = word.strip_prefix("--").unwrap_or_default();
        let mut flags = command.get_subcommands().flat_map(Command::get_arguments);
        let flag = flags.find(|flag| flag.get_long() == Some(name));
        flag.is_some_and(|flag| flag.get_action().takes_values() && !flag.is_require_equals_set())
    };
    let mut words = words.to_vec();
    let mut at = 1;
    while at < words.len() && words[at].starts_with('-') {
        at += if takes_next(&words[at]) { 2 } else { 1 };
    }
    if at < words.len() && command.find_subcommand(&words[at]).is_some() {
        words[1..=at].rotate_right(1);
    }
    words
}

/// Serves until a signal, then until `serving` has ended cleanly.
async fn until_stopped<E>(
    serving: impl Future<Output = Result<(), E>>,
    stop: tokio::sync::oneshot::Sender<()>,
    signals: &mut Signals,
) -> Result<Option<Stop>, E> {
    tokio::pin!(serving);
    let signal = tokio::select! {
        served = &mut serving => return served.map(|()| None),
        signal = signals.next() => signal,
    };
    info!(signal = signal.as_str(), "received signal; shutting down");
    let _ = stop.send(());
    let _ = tokio::time::timeout(STOP_MAX, serving).await;
    Ok(Some(signal))
}

/// Expands Go's form for all interfaces: `:8087`.
fn address(text: &str) -> Result<String, String> {
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.to_owned(),
    };
    match full.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(full),
        _ => Err("give host:port, or :port for all interfaces".to_owned()),
    }
}

async fn listen(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let explain = |error: io::Error| {
        let text = format!("cannot listen on {address}: {error}; choose another address");
        io::Error::new(error.kind(), text)
    };
    let mut found: Vec<_> = lookup_host(address).await.map_err(explain)?.collect();
    // IPv4 first, as in Go: clients dial 127.0.0.1.
    found.sort_by_key(SocketAddr::is_ipv6);
    let nowhere = Err(io::Error::other("the name has no address"));
    let listener = found
        .into_iter()
        .fold(nowhere, |before, at| before.or_else(|_| listen::listen(at)));
    let listener = listener.map_err(explain)?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

/// The members' client addresses: from DNS where a domain is given, else the listed ones.
async fn endpoints(
    domain: Option<&str>,
    name: &str,
    listed: &[String],
) -> Result<Vec<String>, srv::SrvError> {
    let Some(domain) = domain.filter(|domain| !domain.is_empty()) else {
        return Ok(listed.to_vec());
    };
    let dns = srv::Dns::new().map_err(srv::SrvError::Unresolved)?;
    let service = srv::SrvQuery {
        domain: domain.to_owned(),
        name: name.to_owned(),
    };
    srv::clients(&dns, &service).await
}

/// Converts an endpoint, `host:port` or a URL as in etcd, to a URL.
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
    fn addresses_are_gos() {
        assert_eq!(address(":8087").as_deref(), Ok("0.0.0.0:8087"));
        assert_eq!(address("localhost:1").as_deref(), Ok("localhost:1"));
        for bad in ["", "8087", "host:", "host:70000"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
