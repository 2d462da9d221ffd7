//! The role of a member: bind, open the store, say when it is ready, serve, stop when told.

use keelson_store::config::Url;
use keelson_store::edge::Listener;
use keelson_store::{Config, Store, version};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{End, StartError, founder, listen_for_clients, promotion, shut_down};
use crate::options::MemberOptions;
use crate::signals::Signals;
use crate::{announce, logging};

/// Runs a member until a signal, its removal, or the end of serving.
pub(super) async fn live(options: MemberOptions, signals: &mut Signals) -> Result<End, StartError> {
    let MemberOptions {
        config,
        listeners,
        warnings,
    } = options;
    greet(&config, &listeners.urls, &warnings);
    let (listeners, client_urls) = listen_for_clients(&listeners).await?;
    let store = tokio::select! {
        store = Store::open(config.clone()) => store?,
        stop = signals.next() => return Ok(End::Signal(stop)),
    };
    store.set_log_control(Box::new(logging::set_level));
    founder::forget(&config.data_dir)?;
    tokio::spawn(crate::heap::give_back());
    let promotion = promotion::vote_when_in_sync(store.clone(), config.data_dir.clone());
    let promotion = tokio::spawn(promotion);
    let (stopping, stop_seen) = watch::channel(false);
    let serving = serve(&store, &config, &client_urls, listeners, stop_seen);
    tokio::pin!(serving);
    let (end, served) = tokio::select! {
        () = &mut serving => (End::Serving, true),
        () = store.removed() => (End::Removed, false),
        stop = signals.next() => (End::Signal(stop), false),
    };
    if matches!(end, End::Removed) {
        announce::removed();
    }
    // Leadership is handed over first, while clients are still answered; then the edge drains; only
    // then does the member itself stop.
    let closing = async {
        promotion.abort();
        store.transfer_leadership().await;
        stopping.send_replace(true);
        if !served {
            serving.await;
        }
        store.shutdown().await;
    };
    shut_down(closing, end, signals).await;
    Ok(end)
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

/// Serves clients until it is told to stop; from the moment the member has caught up, but for probes.
async fn serve(
    store: &Store,
    config: &Config,
    urls: &[Url],
    listeners: Vec<Listener>,
    mut stop_seen: watch::Receiver<bool>,
) {
    let stopped = async move {
        // An error means that the sender is gone, which is a stop as well.
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
            error!(%error, "serving client requests ended");
        },
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
