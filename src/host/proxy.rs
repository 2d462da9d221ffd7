//! The role of a proxy: bind, find the members, forward, stop when told.

use keelson_proxy::{MembersFrom, ProxyConfig};
use keelson_store::version;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{End, StartError, listen_for_clients, shut_down};
use crate::announce;
use crate::heap;
use crate::options::ProxyOptions;
use crate::pages;
use crate::signals::Signals;

/// Runs a proxy until a signal, or the end of serving.
pub(super) async fn live(
    options: ProxyOptions,
    config: ProxyConfig,
    signals: &mut Signals,
) -> Result<End, StartError> {
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
    let (listeners, urls) = listen_for_clients(&options.listeners).await?;
    let ready = move || {
        announce::ready();
        for url in &urls {
            announce::proxying(url);
        }
        crate::notify::ready();
        tokio::spawn(pages::keep_few());
        tokio::spawn(heap::give_back());
    };
    let (stopping, mut stop_seen) = watch::channel(false);
    let stopped = async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = stop_seen.wait_for(|stop| *stop).await;
    };
    let serving = keelson_proxy::serve(config, listeners, ready, stopped);
    tokio::pin!(serving);
    let stop = tokio::select! {
        served = &mut serving => {
            served?;
            return Ok(End::Serving);
        }
        stop = signals.next() => stop,
    };
    let closing = async {
        stopping.send_replace(true);
        if let Err(error) = serving.await {
            error!(%error, "serving client requests ended");
        }
    };
    let end = End::Signal(stop);
    shut_down(closing, end, signals).await;
    Ok(end)
}
