//! The role of a member: bind, open the store, report readiness, serve, and stop at a signal.

use keelson_store::config::Url;
use keelson_store::edge::Listener;
use keelson_store::listen;
use keelson_store::{Config, Store, version};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::backup::ScheduledBackups;
use super::{
    Companion, EndReason, StartError, client_tls, founder, listen_for_clients, promotion, shut_down,
};
use crate::options::MemberOptions;
use crate::signals::Signals;
use crate::{announce, logging};

/// Runs a member until a signal, its removal, or the end of serving.
pub(super) async fn run(
    options: MemberOptions,
    companion: Option<Companion>,
    signals: &mut Signals,
) -> Result<EndReason, StartError> {
    let MemberOptions {
        config,
        listeners,
        metrics_urls,
        self_signed,
        backup,
        warnings,
    } = options;
    greet(&config, &listeners.urls, &warnings);
    if let Some(certificate) = &self_signed {
        certificate.ensure()?;
    }
    let generated = listeners.self_signed.clone().into_iter().chain(self_signed);
    let generated = generated.collect();
    let tls = client_tls(&listeners)?;
    let (listeners, client_urls) = listen_for_clients(&listeners, tls.as_ref()).await?;
    let metrics = listen::bind_clients(&metrics_urls, "listen-metrics-urls", tls.as_ref()).await?;
    let store = tokio::select! {
        store = Store::open(config.clone()) => store?,
        stop = signals.next() => return Ok(EndReason::Signal(stop)),
    };
    store.set_log_control(Box::new(logging::set_level));
    founder::forget(&config.data_dir)?;
    tokio::spawn(crate::heap::trim_after_bursts());
    tokio::spawn(crate::certificates::care(generated));
    let promotion = promotion::vote_when_in_sync(store.clone(), config.data_dir.clone());
    let promotion = tokio::spawn(promotion);
    let backups = backup.map(|plan| ScheduledBackups::start(store.clone(), plan));
    let companion = companion.map(|companion| tokio::spawn(companion(store.clone())));
    let (stopping, stop_seen) = watch::channel(false);
    let metrics = serve_metrics(store.clone(), metrics, stop_seen.clone());
    let metrics = tokio::spawn(metrics);
    let serving = serve(&store, &config, &client_urls, listeners, stop_seen);
    tokio::pin!(serving);
    let (end, served) = tokio::select! {
        () = &mut serving => (EndReason::Serving, true),
        () = store.removed() => (EndReason::Removed, false),
        () = ended(companion) => (EndReason::Companion, false),
        stop = signals.next() => (EndReason::Signal(stop), false),
    };
    if matches!(end, EndReason::Removed) {
        announce::removed();
    }
    // Leadership is transferred first, while clients are still served. Then the edge drains, and
    // only then the member itself stops.
    let closing = async {
        promotion.abort();
        let backups = async {
            if let Some(backups) = backups {
                backups.stop().await;
            }
        };
        tokio::join!(backups, store.transfer_leadership());
        stopping.send_replace(true);
        if !served {
            serving.await;
        }
        metrics.abort();
        store.shutdown().await;
    };
    shut_down(closing, end, signals).await;
    Ok(end)
}

/// Waits for the end of the task beside the member; for ever without one.
async fn ended(companion: Option<JoinHandle<()>>) {
    match companion {
        // A panic of the task ends the member as well.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
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

/// Serves clients until it is stopped. Before the member has caught up only probes are answered.
async fn serve(
    store: &Store,
    config: &Config,
    urls: &[Url],
    listeners: Vec<Listener>,
    mut stop_seen: watch::Receiver<bool>,
) {
    let stopped = async move {
        // An error means that the sender was dropped, which is a stop as well.
        let _ = stop_seen.wait_for(|stop| *stop).await;
    };
    let announced = async {
        store.ready().await;
        announce_ready(store, config, urls);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = announced => unreachable!("it is pending"),
        served = store.serve(listeners, stopped) => if let Err(error) = served {
            error!(%error, "serving client requests failed");
        },
    }
}

/// Serves `--listen-metrics-urls`.
async fn serve_metrics(
    store: Store,
    listeners: Vec<Listener>,
    mut stop_seen: watch::Receiver<bool>,
) {
    if listeners.is_empty() {
        return;
    }
    let stopped = async move {
        let _ = stop_seen.wait_for(|stop| *stop).await;
    };
    if let Err(error) = store.serve_metrics(listeners, stopped).await {
        error!(%error, "serving metrics failed");
    }
}

fn announce_ready(store: &Store, config: &Config, urls: &[Url]) {
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
}
