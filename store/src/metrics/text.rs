//! Writes a member's metrics: etcd's names, help texts and labels.

use std::sync::atomic::Ordering;

use keelson_core::MemberId;
use keelson_core::node::Role;
use keelson_port::metrics::Exposition;
use keelson_port::{certificate_ends, file_readings};
use keelson_proto::etcdserverpb::AlarmType;

use super::{certificates, files, peers, prefixes};
use crate::edge::Backend;
use crate::{Store, version};

/// Name, help text and value of a metric with one series.
type One<'a> = (&'a str, &'a str, u64);

pub(super) fn counters(out: &mut Exposition, all: &[One<'_>]) {
    for (name, help, value) in all {
        out.counter(name, help, value);
    }
}

pub(super) fn gauges(out: &mut Exposition, all: &[One<'_>]) {
    for (name, help, value) in all {
        out.gauge(name, help, value);
    }
}

/// A revision, or 0 before the first compaction.
pub(super) fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

impl Store {
    /// Writes the metrics of the member, without those of its gRPC calls.
    pub(crate) fn metrics_text(&self, out: &mut Exposition) {
        self.identity_text(out);
        self.raft_text(out);
        self.disk_text(out);
        self.state_text(out);
        self.tree_text(out);
        self.watch_text(out);
        self.lease_text(out);
        self.network_text(out);
        self.prefix_text(out);
        if let Some(traces) = &self.inner.traces {
            traces.write(out);
        }
    }

    fn identity_text(&self, out: &mut Exposition) {
        let help = "Which version is running. 1 for 'cluster_version' label with current cluster \
                    version";
        if let Some(cluster) = self.view().cluster_version() {
            let label = ("cluster_version", version::major_minor(&cluster));
            out.info("etcd_cluster_version", help, label);
        }
        let help = "Which version is running. 1 for 'server_version' label with current version.";
        let label = ("server_version", version::ETCD);
        out.info("etcd_server_version", help, label);
        let help = "Which Go version server is running with. 1 for 'server_go_version' label with \
                    current version.";
        let label = ("server_go_version", "none");
        out.info("etcd_server_go_version", help, label);
        let help = "Server or member ID in hexadecimal format. 1 for 'server_id' label with \
                    current ID.";
        let id = self.member_id().to_string();
        out.info("etcd_server_id", help, ("server_id", &id));
        let help = "Which version of Keelson is running.";
        let label = ("version", version::KEELSON);
        out.info("keelson_version", help, label);
        // Negative as in etcd: 0 would be a full database to the alert on the quota.
        let quota = match self.config().quota_bytes {
            u64::MAX => -1,
            quota => i128::from(quota),
        };
        let help = "Current backend storage quota size in bytes.";
        out.gauge("etcd_server_quota_backend_bytes", help, quota);
        self.feature_text(out);
        self.alarm_text(out);
        self.divergence_text(out);
        certificates::write(out, certificate_ends());
        files::write(out, &file_readings());
    }

    /// Of etcd's feature gates, those that have an effect.
    fn feature_text(&self, out: &mut Exposition) {
        let name = "etcd_server_feature_enabled";
        out.begin(
            name,
            "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
            "gauge",
        );
        let checks = self.config().corruption;
        let gates = [
            ("CompactHashCheck", checks.compactions_ms != 0),
            ("InitialCorruptCheck", checks.at_start),
        ];
        for (gate, is_enabled) in gates {
            let labels = [("name", gate), ("stage", "ALPHA")];
            out.series(name, &labels, u64::from(is_enabled));
        }
    }

    fn divergence_text(&self, out: &mut Exposition) {
        gauges(
            out,
            &[(
                "keelson_member_fenced",
                "Whether this member serves no client since its state differs from the majority's.",
                self.view().is_fenced().into(),
            )],
        );
        counters(
            out,
            &[(
                "keelson_member_divergences_total",
                "How often this member's state was found to differ from the majority's.",
                self.inner.metrics.divergences.get(),
            )],
        );
    }

    fn alarm_text(&self, out: &mut Exposition) {
        let name = "etcd_debugging_server_alarms";
        let help = "Alarms for every member in cluster. 1 for 'server_id' label with current ID. \
                    2 for 'alarm_type' label with type of this alarm";
        let alarms = self.view().alarms();
        if alarms.is_empty() {
            return;
        }
        out.begin(name, help, "gauge");
        for alarm in alarms {
            let member = MemberId(alarm.member_id).to_string();
            let kind = match AlarmType::try_from(alarm.alarm) {
                Ok(kind) => kind.as_str_name().to_owned(),
                Err(_) => alarm.alarm.to_string(),
            };
            out.series(name, &[("server_id", &member), ("alarm_type", &kind)], 1);
        }
    }

    fn raft_text(&self, out: &mut Exposition) {
        let shared = &self.inner.shared;
        let node = shared.node();
        let leads = node.soft_state.role == Role::Leader;
        let has_leader = node.soft_state.leader != MemberId::NONE;
        gauges(
            out,
            &[
                (
                    "etcd_server_has_leader",
                    "Whether or not a leader exists. 1 is existence, 0 is not.",
                    has_leader.into(),
                ),
                (
                    "etcd_server_is_leader",
                    "Whether or not this member is a leader. 1 if is, 0 otherwise.",
                    leads.into(),
                ),
                (
                    "etcd_server_is_learner",
                    "Whether or not this member is a learner. 1 if is, 0 otherwise.",
                    shared.is_learner().into(),
                ),
                (
                    "etcd_server_snapshot_apply_in_progress_total",
                    "1 if the server is applying the incoming snapshot. 0 if none.",
                    self.inner
                        .metrics
                        .is_installing
                        .load(Ordering::Relaxed)
                        .into(),
                ),
                (
                    "etcd_server_proposals_committed_total",
                    "The total number of consensus proposals committed.",
                    node.committed.0,
                ),
                (
                    "etcd_server_proposals_applied_total",
                    "The total number of consensus proposals applied.",
                    self.view().applied_index().0,
                ),
                (
                    "etcd_server_proposals_pending",
                    "The current number of pending proposals to commit.",
                    self.inner.waiters.waiting() as u64,
                ),
            ],
        );
        self.raft_counters(out);
        self.promotion_text(out);
    }

    fn promotion_text(&self, out: &mut Exposition) {
        let name = "etcd_server_learner_promote_failures";
        let help = "The total number of failed learner promotions (likely learner not ready) \
                    while this member is leader.";
        let failed = self.inner.metrics.promotions_failed.lock();
        if failed.is_empty() {
            return;
        }
        out.begin(name, help, "counter");
        for (reason, count) in failed.iter() {
            out.series(name, &[("Reason", reason)], count);
        }
    }

    fn raft_counters(&self, out: &mut Exposition) {
        let (shared, metrics) = (&self.inner.shared, &self.inner.metrics);
        counters(
            out,
            &[
                (
                    "etcd_server_leader_changes_seen_total",
                    "The number of leader changes seen.",
                    shared.leader_changes(),
                ),
                (
                    "etcd_server_proposals_failed_total",
                    "The total number of failed proposals seen.",
                    metrics.proposals_failed.get(),
                ),
                (
                    "etcd_server_slow_apply_total",
                    "The total number of slow apply requests (likely overloaded from slow disk).",
                    metrics.slow_applies.get(),
                ),
                (
                    "etcd_server_slow_read_indexes_total",
                    "The total number of pending read indexes not in sync with leader's or timed \
                     out read index requests.",
                    metrics.reads_slow.get(),
                ),
                (
                    "etcd_server_read_indexes_failed_total",
                    "The total number of failed read indexes seen.",
                    metrics.reads_failed.get(),
                ),
                (
                    "etcd_server_learner_promote_successes",
                    "The total number of successful learner promotions while this member is \
                     leader.",
                    metrics.learners_promoted.get(),
                ),
            ],
        );
    }

    fn disk_text(&self, out: &mut Exposition) {
        let metrics = &self.inner.metrics;
        let size = self.view().size();
        let histograms = [
            (
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
                &metrics.syncs,
            ),
            (
                "etcd_disk_wal_write_duration_seconds",
                "The latency distributions of write called by WAL.",
                &metrics.log_writes,
            ),
            (
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of commit called by backend.",
                &metrics.commits,
            ),
            (
                "etcd_snap_db_save_total_duration_seconds",
                "The total latency distributions of v3 snapshot save",
                &metrics.snapshots,
            ),
            (
                "etcd_mvcc_hash_rev_duration_seconds",
                "The latency distribution of storage hash by revision operation.",
                &metrics.hashes,
            ),
            (
                "etcd_mvcc_hash_duration_seconds",
                "The latency distribution of storage hash operation.",
                &metrics.whole_hashes,
            ),
            (
                "etcd_disk_backend_snapshot_duration_seconds",
                "The latency distribution of backend snapshots.",
                &metrics.sent_files,
            ),
        ];
        for (name, help, histogram) in histograms {
            out.histogram(name, help, histogram);
        }
        metrics.defragmentations.write(out);
        metrics.backups.write(out);
        gauges(
            out,
            &[
                (
                    "etcd_disk_wal_write_bytes_total",
                    "Total number of bytes written in WAL.",
                    metrics.log_bytes.get(),
                ),
                (
                    "etcd_mvcc_db_total_size_in_bytes",
                    "Total size of the underlying database physically allocated in bytes.",
                    size.total_bytes,
                ),
                (
                    "etcd_mvcc_db_total_size_in_use_in_bytes",
                    "Total size of the underlying database logically in use in bytes.",
                    size.in_use_bytes,
                ),
            ],
        );
    }

    fn prefix_text(&self, out: &mut Exposition) {
        if self.config().extensive_metrics && !Backend::auth(self).enabled {
            prefixes::write(out, self.inner.account.read().prefixes);
        }
    }

    fn network_text(&self, out: &mut Exposition) {
        self.inner.links.read(|links| {
            peers::write(out, self.member_id(), links);
        });
        self.inner.metrics.received.write(out);
        let name = "etcd_network_peer_received_bytes_total";
        let help = "The total number of bytes received from peers.";
        out.begin(name, help, "counter");
        for (from, bytes) in self.inner.shared.traffic.received_bytes() {
            out.series(name, &[("From", &from.to_string())], bytes);
        }
    }
}
