//! The expressions of the alerts and of the dashboard in etcd's mixin (`contrib/mixin`), without
//! those of `up`, which is Prometheus's own, and an evaluator of their selectors.

use anyhow::{Context, ensure};

use super::exposition::Series;

/// Names of the metrics as these expressions use them.
pub(super) const EXPRESSIONS: &[&str] = &[
    // Alerts.
    "sum without (To) (rate(etcd_network_peer_sent_failures_total{job=~\".*etcd.*\"}[120s])) \
     > 0.01",
    "etcd_server_has_leader{job=~\".*etcd.*\"} == 0",
    "increase((max without (instance, pod) (etcd_server_leader_changes_seen_total\
     {job=~\".*etcd.*\"}) or 0*absent(etcd_server_leader_changes_seen_total\
     {job=~\".*etcd.*\"}))[15m:1m]) >= 4",
    "100 * sum(rate(grpc_server_handled_total{job=~\".*etcd.*\", grpc_code=~\"Unknown|\
     FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded\"}[5m])) \
     without (grpc_type, grpc_code) / sum(rate(grpc_server_handled_total{job=~\".*etcd.*\"}[5m])) \
     without (grpc_type, grpc_code) > 1",
    "histogram_quantile(0.99, sum(rate(grpc_server_handling_seconds_bucket{job=~\".*etcd.*\", \
     grpc_method!=\"Defragment\", grpc_type=\"unary\"}[5m])) without(grpc_type)) > 0.15",
    "histogram_quantile(0.99, rate(etcd_network_peer_round_trip_time_seconds_bucket\
     {job=~\".*etcd.*\"}[5m])) > 0.15",
    "rate(etcd_server_proposals_failed_total{job=~\".*etcd.*\"}[15m]) > 5",
    "histogram_quantile(0.99, rate(etcd_disk_wal_fsync_duration_seconds_bucket\
     {job=~\".*etcd.*\"}[5m])) > 0.5",
    "histogram_quantile(0.99, rate(etcd_disk_backend_commit_duration_seconds_bucket\
     {job=~\".*etcd.*\"}[5m])) > 0.25",
    "(last_over_time(etcd_mvcc_db_total_size_in_bytes{job=~\".*etcd.*\"}[5m]) / \
     last_over_time(etcd_server_quota_backend_bytes{job=~\".*etcd.*\"}[5m]))*100 > 95",
    "predict_linear(etcd_mvcc_db_total_size_in_bytes{job=~\".*etcd.*\"}[4h], 4*60*60) > \
     etcd_server_quota_backend_bytes{job=~\".*etcd.*\"}",
    "(last_over_time(etcd_mvcc_db_total_size_in_use_in_bytes{job=~\".*etcd.*\"}[5m]) / \
     last_over_time(etcd_mvcc_db_total_size_in_bytes{job=~\".*etcd.*\"}[5m])) < 0.5 and \
     etcd_mvcc_db_total_size_in_use_in_bytes{job=~\".*etcd.*\"} > 104857600",
    // Dashboard.
    "sum(rate(grpc_server_started_total{job=\"etcd\", grpc_type=\"unary\"}[5m]))",
    "sum(grpc_server_started_total{job=\"etcd\", grpc_service=\"etcdserverpb.Watch\", \
     grpc_type=\"bidi_stream\"}) - sum(grpc_server_handled_total{job=\"etcd\", \
     grpc_service=\"etcdserverpb.Watch\", grpc_type=\"bidi_stream\"})",
    "sum(grpc_server_started_total{job=\"etcd\", grpc_service=\"etcdserverpb.Lease\", \
     grpc_type=\"bidi_stream\"}) - sum(grpc_server_handled_total{job=\"etcd\", \
     grpc_service=\"etcdserverpb.Lease\", grpc_type=\"bidi_stream\"})",
    "process_resident_memory_bytes{job=\"etcd\"}",
    "rate(etcd_network_client_grpc_received_bytes_total{job=\"etcd\"}[5m])",
    "rate(etcd_network_client_grpc_sent_bytes_total{job=\"etcd\"}[5m])",
    "sum(rate(etcd_network_peer_received_bytes_total{job=\"etcd\"}[5m])) by (instance)",
    "sum(rate(etcd_network_peer_sent_bytes_total{job=\"etcd\"}[5m])) by (instance)",
    "sum(etcd_server_proposals_pending{job=\"etcd\"})",
    "sum(rate(etcd_server_proposals_committed_total{job=\"etcd\"}[5m]))",
    "sum(rate(etcd_server_proposals_applied_total{job=\"etcd\"}[5m]))",
    "changes(etcd_server_leader_changes_seen_total{job=\"etcd\"}[1d])",
];

/// Checks that every selector of the expression matches a series.
pub(super) fn check(expression: &str, series: &[Series]) -> anyhow::Result<()> {
    let mut found = 0;
    let mut rest = expression;
    while let Some((before, inside)) = rest.split_once('{') {
        let name =
            before.rsplit(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let name = name
            .into_iter()
            .next()
            .context("a selector without a name")?;
        let (matchers, behind) = inside.split_once('}').context("no end of a selector")?;
        let matches = |one: &&Series| {
            one.name == name && matchers.split(", ").all(|matcher| fits(matcher, one))
        };
        ensure!(
            series.iter().any(|one| matches(&one)),
            "no {name}{{{matchers}}}"
        );
        found += 1;
        rest = behind;
    }
    ensure!(0 < found, "no selector");
    Ok(())
}

/// Whether a series has the label that the matcher demands. `job` is the scraper's.
fn fits(matcher: &str, series: &Series) -> bool {
    let Some((label, value)) = matcher.split_once(['=', '!']) else {
        return false;
    };
    let has = series.labels.get(label).map_or("", |value| value);
    let wanted = value.trim_start_matches(['=', '~']).trim_matches('"');
    match (label, matcher.contains('!')) {
        ("job", _) => true,
        (_, true) => has != wanted,
        (_, false) => wanted.split('|').any(|wanted| has == wanted),
    }
}

#[test]
fn a_metric_that_is_missing_is_found() {
    let series = super::exposition::read("# HELP a A.\n# TYPE a gauge\na{b=\"c\"} 1\n").unwrap();
    for (expression, fits) in [
        ("rate(a{job=\"x\", b=~\"d|c\"}[5m])", true),
        ("a{b!=\"c\"}", false),
        ("a{b=\"d\"} / b{}", false),
        ("a", false),
    ] {
        assert_eq!(check(expression, &series).is_ok(), fits, "{expression}");
    }
}
