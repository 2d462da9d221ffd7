//! The role of a member: bind, open the store, say when it is ready, serve, stop when told.

use std::process::ExitCode;
use std::time::Duration;

use keelson_store::config::Url;
use keelson_store::listen::{self, ListenError};
use keelson_store::{Config, OpenError, Store, version};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::announce;
use crate::options::MemberOptions;
use crate::signals::{Signals, Stop};

/// How long a clean stop may take before the process ends anyway: less than the ten seconds that
/// container runtimes give.
const STOP_MAX: Duration = Duration::from_secs(8);

/// Why a member did not start. Exit status 1.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Listen(#[from] ListenError),
    #[error("{0}")]
    Store(#[from] OpenError),
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot start threads: {0}; raise the limit on processes (ulimit -u)")]
    Runtime(std::io::Error),
}

/// Runs a member until a signal, or until it cannot go on.
pub(crate) fn run(options: MemberOptions) -> ExitCode {
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)
        .and_then(|runtime| {
            let result = runtime.block_on(live(options));
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        });
    match result {
        Ok(Some(stop)) => stop.end_process(),
        Ok(None) => ExitCode::FAILURE,
        Err(fault) => {
            error!(error = %fault, plain = %fault, "failed to start etcd");
            ExitCode::FAILURE
        }
    }
}

/// `None` when serving ended by itself.
async fn live(options: MemberOptions) -> Result<Option<Stop>, StartError> {
    let MemberOptions {
        config,
        listen_client_urls,
        warnings,
    } = options;
    let mut signals = Signals::catch().map_err(StartError::Signals)?;
    greet(&config, &listen_client_urls, &warnings);
    let listeners = listen::bind(&listen_client_urls, "listen-client-urls").await?;
    let store = tokio::select! {
        store = Store::open(config.clone()) => store?,
        stop = signals.next() => return Ok(Some(stop)),
    };
    let (stopping, stop_seen) = watch::channel(false);
    let serving = serve(&store, &config, &listen_client_urls, listeners, stop_seen);
    tokio::pin!(serving);
    let (stop, served) = tokio::select! {
        () = &mut serving => (None, true),
        () = store.removed() => {
            error!("the member has been permanently removed from the cluster");
            (None, false)
        }
        stop = signals.next() => (Some(stop), false),
    };
    // Leadership is handed over first, while clients are still answered; then the edge drains; only
    // then does the member itself stop.
    let closing = async {
        store.hand_over().await;
        stopping.send_replace(true);
        if !served {
            serving.await;
        }
        store.shutdown().await;
    };
    shut_down(closing, stop, &mut signals).await;
    Ok(stop)
}

fn greet(config: &Config, listen_client_urls: &[Url], warnings: &[String]) {
    info!(
        "keelson-version" = version::KEELSON,
        "etcd-version" = version::ETCD,
        name = config.name,
        "data-dir" = %config.data_dir.display(),
        "heartbeat-ms" = config.heartbeat_ms,
        "election-timeout-ms" = config.election_ms,
        "snapshot-count" = config.snapshot_count,
        "initial-advertise-peer-urls" = ?config.initial_advertise_peer_urls,
        "listen-peer-urls" = ?config.listen_peer_urls,
        "advertise-client-urls" = ?config.advertise_client_urls,
        "listen-client-urls" = ?listen_client_urls,
        "starting a keelson member"
    );
    for warning in warnings {
        warn!("{warning}");
    }
}

/// Serves clients from the moment the member has caught up until it is told to stop.
async fn serve(
    store: &Store,
    config: &Config,
    urls: &[Url],
    listeners: Vec<TcpListener>,
    mut stop_seen: watch::Receiver<bool>,
) {
    let mut stopped_early = stop_seen.clone();
    tokio::select! {
        () = store.ready() => {}
        _ = stopped_early.wait_for(|stop| *stop) => return,
    }
    let header = store.status().header.unwrap_or_default();
    announce::published(
        &config.name,
        &config.advertise_client_urls,
        header.member_id,
        header.cluster_id,
    );
    announce::capabilities(version::CLUSTER);
    announce::ready();
    for url in urls {
        announce::serving(url);
    }
    crate::notify::ready();
    let stopped = async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = stop_seen.wait_for(|stop| *stop).await;
    };
    if let Err(error) = store.serve(listeners, stopped).await {
        error!(%error, "serving client requests ended");
    }
}

/// Stops cleanly, within bounds; a second signal ends the process here.
async fn shut_down(closing: impl Future<Output = ()>, stop: Option<Stop>, signals: &mut Signals) {
    if let Some(stop) = stop {
        info!(
            signal = stop.as_str(),
            plain = %format_args!("received {} signal, shutting down...", stop.as_str()),
            "received signal; shutting down"
        );
    }
    tokio::select! {
        () = closing => info!("closed etcd server"),
        () = tokio::time::sleep(STOP_MAX) => {
            warn!(seconds = STOP_MAX.as_secs(), "stopping took too long; ending without it");
        }
        again = signals.next() => again.end_process(),
    }
}
