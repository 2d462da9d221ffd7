//! A host from start to end: decide its role, run it, and stop at a signal.

mod backup;
mod bring_up;
pub(crate) mod data_dir;
mod founder;
mod member;
mod promotion;
mod proxy;

pub(crate) use self::backup::{BackupPlan, BackupTarget};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use keelson_discovery::DiscoveryError;
use keelson_proxy::ProxyError;
use keelson_store::config::Url;
use keelson_store::edge::{Listener, ServerTls, TlsError};
use keelson_store::listen::{self, ListenError};
use keelson_store::{OpenError, Store};
use tokio::runtime::Builder;
use tracing::{error, info, warn};

use crate::certificates::CertificateError;
use crate::logging;
use crate::options::{ClientListeners, HostOptions, MemberOptions, OptionsError};
use crate::signals::{self, Signals, Stop};
use bring_up::Role;
use data_dir::DirectoryError;

/// Bound on a clean stop, after which the process ends anyway: less than the ten seconds that
/// container runtimes allow.
const STOP_MAX: Duration = Duration::from_secs(8);

/// Why a host did not start. Exit status 1.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Options(#[from] OptionsError),
    #[error(
        "{0}; check --cert-file, --key-file, --trusted-ca-file and the same flags with --peer-"
    )]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    #[error("{0}")]
    DataDir(#[from] DirectoryError),
    #[error("{0}")]
    Discovery(#[from] DiscoveryError),
    #[error("{0}")]
    Srv(#[from] keelson_discovery::srv::SrvError),
    #[error("{0}")]
    Choose(#[from] keelson_discovery::ChooseError),
    #[error("DEIS_NUM_INSTANCES: {0}")]
    DeisNumInstances(keelson_discovery::SizeError),
    #[error(
        "cannot use {}: {error}; the data directory must be readable and writable",
        path.display()
    )]
    Note {
        path: std::path::PathBuf,
        error: std::io::Error,
    },
    #[error(
        "the list of members cannot be parsed: {0}; check the entries at the discovery service, \
         the SRV records or --initial-cluster"
    )]
    Found(String),
    #[error("{0}")]
    Listen(#[from] ListenError),
    #[error("{0}")]
    Store(#[from] OpenError),
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot start threads: {0}; raise the limit on processes (ulimit -u)")]
    Runtime(std::io::Error),
}

/// A task beside a member. When it ends, the member is stopped.
pub(crate) type Companion =
    Box<dyn FnOnce(Store) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Runs until a signal, or until the host cannot continue.
pub(crate) fn run(program: &str, options: HostOptions) -> ExitCode {
    run_with(program, options, None).unwrap_or(ExitCode::FAILURE)
}

/// The same, with a task beside the member. Returns no exit status if that task has ended.
pub(crate) fn run_with(
    program: &str,
    options: HostOptions,
    companion: Option<Companion>,
) -> Option<ExitCode> {
    let result = prepare(&options).and_then(|()| begin(options));
    let result = result.and_then(|first| match first {
        FirstStage::Ended(end) => Ok(end),
        FirstStage::Member(options) => on(Builder::new_multi_thread(), async {
            let mut signals = Signals::catch().map_err(StartError::Signals)?;
            member::run(*options, companion, &mut signals).await
        }),
    });
    Some(match result {
        Ok(EndReason::Companion) => return None,
        Ok(EndReason::Signal(stop)) => stop.end_process(),
        Ok(EndReason::Removed) => ExitCode::SUCCESS,
        Ok(EndReason::Serving) => ExitCode::FAILURE,
        Err(fault) => {
            // Scripts that start `etcd` search the log for its texts.
            let name = if program.starts_with("etcd") {
                "etcd"
            } else {
                "keelson"
            };
            error!(error = %fault, plain = %fault, "failed to start {name}");
            ExitCode::FAILURE
        }
    })
}

/// What precedes everything that may take long.
fn prepare(options: &HostOptions) -> Result<(), StartError> {
    if options.has_files() || logging::has_files() {
        signals::remember_hangup().map_err(StartError::Signals)?;
    }
    Ok(())
}

/// Why a host that had started ended.
#[derive(Clone, Copy)]
enum EndReason {
    /// A signal stopped it, and is the process's exit reason.
    Signal(Stop),
    /// The member was removed from the cluster. The exit status is 0 as in etcd, so that a
    /// supervisor that restarts on failure does not start it again.
    Removed,
    /// Serving failed.
    Serving,
    /// The task beside it has ended.
    Companion,
}

/// The result of the part that runs on one thread.
enum FirstStage {
    /// The host has ended.
    Ended(EndReason),
    /// The host is a member, which needs more threads.
    Member(Box<MemberOptions>),
}

/// Decides the role. A proxy needs no more than this one thread: it mostly waits, and every further
/// thread would cost memory and wake-ups on each host of a platform.
fn begin(options: HostOptions) -> Result<FirstStage, StartError> {
    on(Builder::new_current_thread(), async {
        let mut signals = Signals::catch().map_err(StartError::Signals)?;
        // Finding the other members may take as long as they need to start.
        let role = tokio::select! {
            role = bring_up::decide(options) => role?,
            stop = signals.next() => return Ok(FirstStage::Ended(EndReason::Signal(stop))),
        };
        match role {
            Role::Member(options) => Ok(FirstStage::Member(options)),
            Role::Proxy(options, config) => proxy::run(*options, *config, &mut signals)
                .await
                .map(FirstStage::Ended),
        }
    })
}

fn on<T>(
    mut runtime: Builder,
    work: impl Future<Output = Result<T, StartError>>,
) -> Result<T, StartError> {
    let runtime = runtime.enable_all().build().map_err(StartError::Runtime)?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// TLS of the client ports. Their certificate is made first if it is a generated one.
fn client_tls(wanted: &ClientListeners) -> Result<Option<ServerTls>, StartError> {
    if let Some(certificate) = &wanted.self_signed {
        certificate.ensure()?;
    }
    Ok(wanted.tls.clone().map(ServerTls::new).transpose()?)
}

/// Binds the client ports: all of `urls` and `http`, and those of `spare` that are free.
async fn listen_for_clients(
    wanted: &ClientListeners,
    tls: Option<&ServerTls>,
) -> Result<(Vec<Listener>, Vec<Url>), StartError> {
    let flag = "listen-client-urls";
    let mut listeners = listen::bind_clients(&wanted.urls, flag, tls).await?;
    let mut urls = wanted.urls.clone();
    let flag_of_http = "listen-client-http-urls";
    listeners.extend(listen::bind_clients(&wanted.http, flag_of_http, tls).await?);
    urls.extend_from_slice(&wanted.http);
    for url in &wanted.spare {
        match listen::bind_clients(std::slice::from_ref(url), flag, None).await {
            Ok(more) => {
                listeners.extend(more);
                urls.push(url.clone());
            }
            Err(error) => warn!(
                "not listening on {url}, the second port of etcd 2, which some clients use: {error}"
            ),
        }
    }
    Ok((listeners, urls))
}

/// Stops cleanly, within a time bound; a second signal ends the process here.
async fn shut_down(closing: impl Future<Output = ()>, end: EndReason, signals: &mut Signals) {
    if let EndReason::Signal(stop) = end {
        info!(
            signal = stop.as_str(),
            plain = %format_args!("received {} signal, shutting down...", stop.as_str()),
            "received signal; shutting down"
        );
    }
    tokio::select! {
        () = closing => info!("closed etcd server"),
        () = tokio::time::sleep(STOP_MAX) => {
            warn!(seconds = STOP_MAX.as_secs(), "the clean stop took too long; ending the process");
        }
        again = signals.next() => again.end_process(),
    }
}
