//! The role of a proxy: bind, find the members, forward, and stop at a signal.

use std::io;
use std::path::Path;

use keelson_proxy::{MembersFrom, ProxyConfig, SavePeerUrls};
use keelson_store::internals::disk;
use keelson_store::version;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::data_dir::{self, ClusterFile, DirectoryError};
use super::{EndReason, StartError, client_tls, listen_for_clients, shut_down};
use crate::heap;
use crate::options::ProxyOptions;
use crate::pages;
use crate::signals::Signals;
use crate::{announce, certificates};

/// Runs a proxy until a signal, or until serving fails.
pub(super) async fn run(
    options: ProxyOptions,
    mut config: ProxyConfig,
    signals: &mut Signals,
) -> Result<EndReason, StartError> {
    let (MembersFrom::Peers(members) | MembersFrom::Clients(members)) = &config.members;
    info!(
        "keelson-version" = version::KEELSON,
        mode = %config.mode,
        members = ?members,
        "data-dir" = %options.data_dir.display(),
        "listen-client-urls" = ?options.listeners.urls,
        "starting a keelson proxy"
    );
    for warning in &options.warnings {
        warn!("{warning}");
    }
    let tls = client_tls(&options.listeners)?;
    let (listeners, urls) = listen_for_clients(&options.listeners, tls.as_ref()).await?;
    let generated = options.listeners.self_signed.clone().into_iter().collect();
    let ready = move || {
        announce::ready();
        for url in &urls {
            announce::proxying(url);
        }
        crate::notify::ready();
        tokio::spawn(pages::trim_resident_code());
        tokio::spawn(certificates::care(generated));
        tokio::spawn(heap::trim_after_bursts());
    };
    let (stopping, mut stop_seen) = watch::channel(false);
    let stopped = async move {
        // An error means that the sender was dropped, which is a stop as well.
        let _ = stop_seen.wait_for(|stop| *stop).await;
    };
    let _lock = keep_peer_urls(&options.data_dir, &mut config)?;
    let serving = keelson_proxy::serve(config, listeners, ready, stopped);
    tokio::pin!(serving);
    let stop = tokio::select! {
        served = &mut serving => {
            served?;
            return Ok(EndReason::Serving);
        }
        stop = signals.next() => stop,
    };
    let closing = async {
        stopping.send_replace(true);
        if let Err(error) = serving.await {
            error!(%error, "serving client requests failed");
        }
    };
    let end = EndReason::Signal(stop);
    shut_down(closing, end, signals).await;
    Ok(end)
}

/// Makes the data directory a proxy's, and has the proxy keep its cluster's peer URLs there.
fn keep_peer_urls(
    data_dir: &Path,
    config: &mut ProxyConfig,
) -> Result<disk::DirectoryLock, DirectoryError> {
    let file = ClusterFile::open(data_dir)?;
    config.kept_peer_urls = file.load()?.unwrap_or_default();
    config.save_peer_urls = Some(SavePeerUrls::new(move |peer_urls| {
        file.save(peer_urls).map_err(io::Error::other)
    }));
    data_dir::lock(data_dir)
}
