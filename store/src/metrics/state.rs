//! Writes the metrics of the state machine, of watches and of leases.

use keelson_core::state::ReadView;
use keelson_edge::v2::TreeBackend;
use keelson_port::metrics::Exposition;

use super::TTL_SECOND;
use super::text::{counters, gauges, unsigned};
use crate::Store;
use crate::edge::Backend;

impl Store {
    pub(super) fn state_text(&self, out: &mut Exposition) {
        let view = self.view();
        let counts = view.counts();
        // Of etcd 3.4, whose dashboards have both names.
        let operations = [
            (
                "put",
                "Total number of puts seen by this member.",
                counts.puts,
            ),
            (
                "delete",
                "Total number of deletes seen by this member.",
                counts.deletes,
            ),
            (
                "range",
                "Total number of ranges seen by this member.",
                counts.ranges,
            ),
            (
                "txn",
                "Total number of txns seen by this member.",
                counts.txns,
            ),
        ];
        for (operation, help, count) in operations {
            for group in ["etcd_mvcc", "etcd_debugging_mvcc"] {
                out.counter(&format!("{group}_{operation}_total"), help, count);
            }
        }
        let help = "Total number of db keys compacted.";
        let name = "etcd_debugging_mvcc_db_compaction_keys_total";
        out.counter(name, help, counts.swept);
        self.inner.metrics.ranges.write(out);
        self.inner.metrics.compactions.write(out);
        self.revision_text(out, &view, counts.put_bytes);
    }

    fn revision_text(&self, out: &mut Exposition, view: &ReadView, put_bytes: u64) {
        gauges(
            out,
            &[
                (
                    "etcd_debugging_mvcc_total_put_size_in_bytes",
                    "The total size of put kv pairs seen by this member.",
                    put_bytes,
                ),
                (
                    "etcd_debugging_mvcc_keys_total",
                    "Total number of keys.",
                    view.key_count() as u64,
                ),
                (
                    "etcd_debugging_mvcc_current_revision",
                    "The current revision of store.",
                    unsigned(view.revision()),
                ),
                (
                    "etcd_debugging_mvcc_compact_revision",
                    "The revision of the last compaction in store.",
                    unsigned(view.compact_revision()),
                ),
                (
                    "etcd_debugging_auth_revision",
                    "The current revision of auth store.",
                    Backend::auth(self).revision,
                ),
            ],
        );
    }

    /// Of the v2 tree. The edge counts its requests.
    pub(super) fn tree_text(&self, out: &mut Exposition) {
        let help = "Total number of expired keys.";
        let expired = self.tree_expired();
        out.counter("etcd_debugging_store_expires_total", help, expired);
        let help = "Count of currently active watchers.";
        out.gauge("etcd_debugging_store_watchers", help, self.tree_watchers());
    }

    pub(super) fn watch_text(&self, out: &mut Exposition) {
        let counts = self.inner.watches.hub.counts();
        counters(
            out,
            &[(
                "etcd_debugging_mvcc_events_total",
                "Total number of events sent by this member.",
                counts.deliveries,
            )],
        );
        gauges(
            out,
            &[
                (
                    "etcd_debugging_mvcc_watch_stream_total",
                    "Total number of watch streams.",
                    counts.streams as u64,
                ),
                (
                    "etcd_debugging_mvcc_watcher_total",
                    "Total number of watchers.",
                    counts.watchers as u64,
                ),
                (
                    "etcd_debugging_mvcc_slow_watcher_total",
                    "Total number of unsynced slow watchers.",
                    counts.slow_streams as u64,
                ),
                (
                    "etcd_debugging_mvcc_pending_events_total",
                    "Total number of pending events to be sent.",
                    counts.waiting as u64,
                ),
                (
                    "keelson_watch_lag_revisions",
                    "Number of revisions by which the slowest watch stream is behind.",
                    counts.lag,
                ),
            ],
        );
    }

    pub(super) fn lease_text(&self, out: &mut Exposition) {
        let metrics = &self.inner.metrics;
        counters(
            out,
            &[
                (
                    "etcd_debugging_lease_granted_total",
                    "The total number of granted leases.",
                    metrics.leases_granted.get(),
                ),
                (
                    "etcd_debugging_lease_revoked_total",
                    "The total number of revoked leases.",
                    metrics.leases_gone.get(),
                ),
                (
                    "etcd_debugging_lease_renewed_total",
                    "The number of renewed leases seen by the leader.",
                    metrics.leases_renewed.get(),
                ),
                (
                    "etcd_debugging_server_lease_expired_total",
                    "The total number of expired leases.",
                    metrics.leases_expired.get(),
                ),
            ],
        );
        let name = "etcd_debugging_lease_ttl_total";
        out.begin(name, "Bucketed histogram of lease TTLs.", "histogram");
        out.buckets_in(TTL_SECOND, name, &[], &metrics.lease_ttls);
    }
}
