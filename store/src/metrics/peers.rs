//! The counts of the links to peers, and their series.

use std::sync::Arc;
use std::time::Duration;

use keelson_core::MemberId;
use keelson_port::metrics::{Exposition, Histogram};

use super::{Count, TransferCounts, transfers};

/// The counts of the link to one peer. They live as long as the link.
#[derive(Debug)]
pub(crate) struct LinkCounts {
    /// The size of the messages that were given to the connection, in bytes.
    pub(crate) sent_bytes: Count,
    /// Messages that were dropped.
    pub(crate) failures: Count,
    /// Connections that ended.
    pub(crate) disconnects: Count,
    /// The durations of small calls to the peer.
    pub(crate) round_trips: Histogram,
    pub(crate) snapshots: Arc<TransferCounts>,
}

impl Default for LinkCounts {
    fn default() -> LinkCounts {
        LinkCounts {
            sent_bytes: Count::default(),
            failures: Count::default(),
            disconnects: Count::default(),
            round_trips: Histogram::exponential(Duration::from_micros(100), 16),
            snapshots: Arc::default(),
        }
    }
}

/// A link at one moment.
pub(crate) struct LinkRead<'a> {
    pub(crate) peer: MemberId,
    pub(crate) is_up: bool,
    pub(crate) counts: &'a LinkCounts,
}

/// Writes the series of all links. Each of them exists from the start of its link.
pub(super) fn write(out: &mut Exposition, local: MemberId, links: &[LinkRead<'_>]) {
    let local = local.to_string();
    let peers: Vec<String> = links.iter().map(|link| link.peer.to_string()).collect();
    let mut pairs = |name: &str, kind: &str, help: &str, value: &dyn Fn(&LinkRead<'_>) -> u64| {
        out.begin(name, help, kind);
        for (link, peer) in links.iter().zip(&peers) {
            let labels = [("Local", &*local), ("Remote", &**peer)];
            out.series(name, &labels, value(link));
        }
    };
    pairs(
        "etcd_network_active_peers",
        "gauge",
        "The current number of active peer connections.",
        &|link| u64::from(link.is_up),
    );
    pairs(
        "etcd_network_known_peers",
        "gauge",
        "The current number of known peers.",
        &|_| 1,
    );
    pairs(
        "etcd_network_disconnected_peers_total",
        "counter",
        "The total number of disconnected peers.",
        &|link| link.counts.disconnects.get(),
    );
    let mut to = |name: &str, help: &str, value: &dyn Fn(&LinkCounts) -> u64| {
        out.begin(name, help, "counter");
        for (link, peer) in links.iter().zip(&peers) {
            out.series(name, &[("To", peer)], value(link.counts));
        }
    };
    to(
        "etcd_network_peer_sent_bytes_total",
        "The total number of bytes sent to peers.",
        &|counts| counts.sent_bytes.get(),
    );
    to(
        "etcd_network_peer_sent_failures_total",
        "The total number of send failures from peers.",
        &|counts| counts.failures.get(),
    );
    let snapshots = links.iter().zip(&peers);
    let snapshots =
        snapshots.map(|(link, peer)| (peer.clone(), Arc::clone(&link.counts.snapshots)));
    let snapshots: Vec<_> = snapshots.collect();
    transfers::write(out, &transfers::SENT, &snapshots);
    let name = "etcd_network_peer_round_trip_time_seconds";
    let help = "Round-Trip-Time histogram between peers.";
    out.begin(name, help, "histogram");
    for (link, peer) in links.iter().zip(&peers) {
        out.buckets(name, &[("To", peer)], &link.counts.round_trips);
    }
}
