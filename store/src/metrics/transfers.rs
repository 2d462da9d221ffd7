//! Counts of snapshots that pass between members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keelson_core::MemberId;
use keelson_port::metrics::{Exposition, Histogram};
use parking_lot::Mutex;

use super::Count;

/// The snapshots to one peer, or from one.
#[derive(Debug)]
pub(crate) struct TransferCounts {
    under_way: AtomicU64,
    succeeded: Count,
    failed: Count,
    /// The durations of those that succeeded.
    durations: Histogram,
}

impl Default for TransferCounts {
    fn default() -> TransferCounts {
        TransferCounts {
            under_way: AtomicU64::new(0),
            succeeded: Count::default(),
            failed: Count::default(),
            durations: Histogram::exponential(Duration::from_millis(100), 10),
        }
    }
}

/// A snapshot under way. Dropped before `succeed`, it has failed.
#[derive(Debug)]
pub(crate) struct Transfer {
    counts: Arc<TransferCounts>,
    began: Instant,
    succeeded: bool,
}

impl Transfer {
    /// Begins now.
    pub(crate) fn begin(counts: Arc<TransferCounts>) -> Transfer {
        counts.under_way.fetch_add(1, Ordering::Relaxed);
        Transfer {
            counts,
            began: Instant::now(),
            succeeded: false,
        }
    }

    /// The snapshot is installed, or found stale.
    pub(crate) fn succeed(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.counts.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.succeeded {
            self.counts.succeeded.add(1);
            self.counts.durations.observe(self.began.elapsed());
        } else {
            self.counts.failed.add(1);
        }
    }
}

/// The snapshots from each peer that has sent one, and its streams of messages that broke.
#[derive(Debug, Default)]
pub struct ReceivedSnapshots {
    snapshots: Mutex<BTreeMap<MemberId, Arc<TransferCounts>>>,
    broken_streams: Mutex<BTreeMap<MemberId, u64>>,
}

impl ReceivedSnapshots {
    /// A snapshot from a member begins.
    pub(crate) fn begin(&self, from: MemberId) -> Transfer {
        Transfer::begin(Arc::clone(self.snapshots.lock().entry(from).or_default()))
    }

    /// A member's stream of messages could not be read on.
    pub(crate) fn stream_broke(&self, from: MemberId) {
        *self.broken_streams.lock().entry(from).or_default() += 1;
    }

    /// Writes their series.
    pub(super) fn write(&self, out: &mut Exposition) {
        let all: Vec<_> = self
            .snapshots
            .lock()
            .iter()
            .map(|(from, counts)| (from.to_string(), Arc::clone(counts)))
            .collect();
        write(out, &RECEIVED, &all);
        let broken = self.broken_streams.lock();
        if broken.is_empty() {
            return;
        }
        let name = "etcd_network_peer_received_failures_total";
        let help = "The total number of receive failures from peers.";
        out.begin(name, help, "counter");
        for (from, count) in broken.iter() {
            out.series(name, &[("From", &from.to_string())], count);
        }
    }
}

/// etcd's names and texts for one direction.
pub(super) struct Direction {
    label: &'static str,
    name: &'static str,
    texts: [&'static str; 4],
}

/// From peers.
const RECEIVED: Direction = Direction {
    label: "From",
    name: "etcd_network_snapshot_receive",
    texts: [
        "Total number of successful snapshot receives",
        "Total number of snapshot receive failures",
        "Total number of inflight snapshot receives",
        "Total latency distributions of v3 snapshot receives",
    ],
};

/// To peers.
pub(super) const SENT: Direction = Direction {
    label: "To",
    name: "etcd_network_snapshot_send",
    texts: [
        "Total number of successful snapshot sends",
        "Total number of snapshot send failures",
        "Total number of inflight snapshot sends",
        "Total latency distributions of v3 snapshot sends",
    ],
};

/// Writes the series of one direction.
pub(super) fn write(
    out: &mut Exposition,
    direction: &Direction,
    peers: &[(String, Arc<TransferCounts>)],
) {
    let [succeeded, failed, under_way, durations] = direction.texts;
    let mut metric =
        |suffix: &str, kind: &str, help: &str, value: &dyn Fn(&TransferCounts) -> u64| {
            let name = format!("{}{suffix}", direction.name);
            out.begin(&name, help, kind);
            for (peer, counts) in peers {
                out.series(&name, &[(direction.label, peer)], value(counts));
            }
        };
    metric("_success", "counter", succeeded, &|counts| {
        counts.succeeded.get()
    });
    metric("_failures", "counter", failed, &|counts| {
        counts.failed.get()
    });
    metric("_inflights_total", "gauge", under_way, &|counts| {
        counts.under_way.load(Ordering::Relaxed)
    });
    let name = format!("{}_total_duration_seconds", direction.name);
    out.begin(&name, durations, "histogram");
    for (peer, counts) in peers {
        out.buckets(&name, &[(direction.label, peer)], &counts.durations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_counts_once() {
        let received = ReceivedSnapshots::default();
        let from = MemberId(0xa);
        received.begin(from).succeed();
        drop(received.begin(from));
        let under_way = received.begin(from);
        let mut out = Exposition::default();
        received.write(&mut out);
        let text = out.into_text();
        for line in [
            "etcd_network_snapshot_receive_success{From=\"a\"} 1",
            "etcd_network_snapshot_receive_failures{From=\"a\"} 1",
            "etcd_network_snapshot_receive_inflights_total{From=\"a\"} 1",
            "etcd_network_snapshot_receive_total_duration_seconds_count{From=\"a\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        drop(under_way);
    }
}
