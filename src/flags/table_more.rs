//! Flags that do little or nothing yet: monitoring, the v2 proxy, features, and old names.

use super::{Effect::*, Flag, Group, Kind::*, group};

const OPS: &str = "scrape /metrics and /health on --listen-client-urls instead";

group! { MONITORING, "Profiling and Monitoring",
    "enable-pprof", Bool, "false", NoEffect =>
        "Enable runtime profiling data via HTTP server.";
    "metrics", OneOf(&["basic", "extensive"]), "basic", NoEffect =>
        "Set level of detail for exported metrics.";
    "listen-metrics-urls", MaybeUrls, "", Unsupported(OPS) =>
        "List of URLs to listen on for the metrics and health endpoints.";
    "enable-distributed-tracing", Bool, "false", NoEffect =>
        "Enable distributed tracing.";
    "distributed-tracing-address", Text, "localhost:4317", NoEffect =>
        "Distributed tracing collector address.";
    "distributed-tracing-service-name", Text, "etcd", NoEffect =>
        "Distributed tracing service name.";
    "distributed-tracing-instance-id", Text, "", NoEffect =>
        "Distributed tracing instance ID.";
    "distributed-tracing-sampling-rate", Count, "0", NoEffect =>
        "Number of samples to collect per million spans.";
}

const PROXY_LATER: &str = "the proxy is a later step: point clients at the members";

group! { PROXY, "v2 Proxy",
    "proxy", OneOf(&["off", "readonly", "on"]), "off", Unsupported(PROXY_LATER) =>
        "Proxy mode setting ('off', 'readonly' or 'on').";
    "proxy-failure-wait", Count, "5000", NoEffect =>
        "Time (in milliseconds) an endpoint will be held in a failed state.";
    "proxy-refresh-interval", Count, "30000", NoEffect =>
        "Time (in milliseconds) of the endpoints refresh interval.";
    "proxy-dial-timeout", Count, "1000", NoEffect =>
        "Time (in milliseconds) for a dial to timeout.";
    "proxy-write-timeout", Count, "5000", NoEffect =>
        "Time (in milliseconds) for a write to timeout.";
    "proxy-read-timeout", Count, "0", NoEffect =>
        "Time (in milliseconds) for a read to timeout.";
}

group! { FEATURES, "Features",
    "config-file", Text, "", Unsupported("give flags, or ETCD_* in the environment") =>
        "Path to the server configuration file.";
    "corrupt-check-time", Duration, "0s", NoEffect =>
        "Duration of time between cluster corruption check passes.";
    "compact-hash-check-time", Duration, "1m", NoEffect =>
        "Duration of time between leader checks followers compaction hashes.";
    "compaction-batch-limit", Count, "1000", NoEffect =>
        "Maximum revisions deleted in each compaction batch.";
    "compaction-sleep-interval", Duration, "10ms", NoEffect =>
        "Sleep interval between each compaction batch.";
    "watch-progress-notify-interval", Duration, "10m", NoEffect =>
        "Duration of periodical watch progress notification.";
    "warning-apply-duration", Duration, "100ms", NoEffect =>
        "Time after which a slow apply is logged.";
    "bootstrap-defrag-threshold-megabytes", Count, "0", NoEffect =>
        "Defragment at start when that frees at least so much.";
    "max-learners", Count, "1", NoEffect =>
        "Maximum number of learner members in the cluster membership.";
    "downgrade-check-time", Duration, "5s", NoEffect =>
        "Duration of time between two downgrade status checks.";
    "snapshot-catchup-entries", Count, "5000", Works =>
        "Number of entries kept for a slow follower after the log is compacted.";
}

const TLS: &str = "TLS is a later step: leave the flag out";

group! { EXPERIMENTAL, "Experimental names of etcd 2 to 3.5",
    "experimental-initial-corrupt-check", Bool, "false", NoEffect =>
        "Check data corruption before serving any client/peer traffic.";
    "experimental-corrupt-check-time", Duration, "0s", NoEffect =>
        "Now --corrupt-check-time.";
    "experimental-compact-hash-check-enabled", Bool, "false", NoEffect =>
        "Let the leader check followers' compaction hashes.";
    "experimental-compact-hash-check-time", Duration, "1m", NoEffect =>
        "Now --compact-hash-check-time.";
    "experimental-enable-v2v3", Text, "", Unsupported("the v2 API is a later step") =>
        "Serve v2 requests through the v3 backend under a given prefix.";
    "experimental-backend-bbolt-freelist-type", Text, "array", NoEffect =>
        "Now --backend-bbolt-freelist-type.";
    "experimental-enable-lease-checkpoint", Bool, "false", NoEffect =>
        "Let the leader persist the remaining TTL of leases.";
    "experimental-enable-lease-checkpoint-persist", Bool, "false", NoEffect =>
        "Persist the remaining TTL of leases.";
    "experimental-compaction-batch-limit", Count, "1000", NoEffect =>
        "Now --compaction-batch-limit.";
    "experimental-compaction-sleep-interval", Duration, "10ms", NoEffect =>
        "Now --compaction-sleep-interval.";
    "experimental-peer-skip-client-san-verification", Bool, "false", Unsupported(TLS) =>
        "Now --peer-skip-client-san-verification.";
    "experimental-watch-progress-notify-interval", Duration, "10m", NoEffect =>
        "Now --watch-progress-notify-interval.";
    "experimental-warning-apply-duration", Duration, "100ms", NoEffect =>
        "Now --warning-apply-duration.";
    "experimental-warning-unary-request-duration", Duration, "300ms", NoEffect =>
        "Now --warning-unary-request-duration.";
    "experimental-memory-mlock", Bool, "false", NoEffect =>
        "Now --memory-mlock.";
    "experimental-txn-mode-write-with-shared-buffer", Bool, "true", NoEffect =>
        "Share the read buffer with write transactions.";
    "experimental-bootstrap-defrag-threshold-megabytes", Count, "0", NoEffect =>
        "Now --bootstrap-defrag-threshold-megabytes.";
    "experimental-max-learners", Count, "1", NoEffect =>
        "Now --max-learners.";
    "experimental-wait-cluster-ready-timeout", Duration, "5s", NoEffect =>
        "Longest wait for the cluster before serving.";
    "experimental-snapshot-catchup-entries", Count, "5000", NoEffect =>
        "Now --snapshot-catchup-entries.";
    "experimental-downgrade-check-time", Duration, "5s", NoEffect =>
        "Now --downgrade-check-time.";
    "experimental-stop-grpc-service-on-defrag", Bool, "false", NoEffect =>
        "Stop the gRPC service while defragmenting.";
    "experimental-enable-distributed-tracing", Bool, "false", NoEffect =>
        "Now --enable-distributed-tracing.";
    "experimental-distributed-tracing-address", Text, "localhost:4317", NoEffect =>
        "Now --distributed-tracing-address.";
    "experimental-distributed-tracing-service-name", Text, "etcd", NoEffect =>
        "Now --distributed-tracing-service-name.";
    "experimental-distributed-tracing-instance-id", Text, "", NoEffect =>
        "Now --distributed-tracing-instance-id.";
    "experimental-distributed-tracing-sampling-rate", Count, "0", NoEffect =>
        "Now --distributed-tracing-sampling-rate.";
    "experimental-v3demo", Bool, "false", NoEffect =>
        "The v3 API is always on.";
    "experimental-gRPC-addr", Text, "127.0.0.1:2378", NoEffect =>
        "gRPC is served on --listen-client-urls.";
    "experimental-auto-compaction-retention", Text, "0", NoEffect =>
        "Now --auto-compaction-retention.";
}

const PEERS: &str = "list the members in --initial-cluster instead";

group! { OBSOLETE, "Names of etcd 0.4",
    "addr", HostPort, "", Works =>
        "Now --advertise-client-urls, and --listen-client-urls on all interfaces.";
    "bind-addr", HostPort, "", Works =>
        "Now --listen-client-urls.";
    "peer-addr", HostPort, "", Works =>
        "Now --initial-advertise-peer-urls, and --listen-peer-urls on all interfaces.";
    "peer-bind-addr", HostPort, "", Works =>
        "Now --listen-peer-urls.";
    "peers", Text, "", Unsupported(PEERS) =>
        "Now --initial-cluster.";
    "peers-file", Text, "", Unsupported(PEERS) =>
        "Now --initial-cluster.";
    "cluster-active-size", Text, "", Ignored => "Ignored.";
    "cluster-remove-delay", Text, "", Ignored => "Ignored.";
    "cluster-sync-interval", Text, "", Ignored => "Ignored.";
    "config", Text, "", Ignored => "Ignored.";
    "force", Bool, "false", Ignored => "Ignored.";
    "max-result-buffer", Text, "", Ignored => "Ignored.";
    "max-retry-attempts", Text, "", Ignored => "Ignored.";
    "peer-heartbeat-interval", Text, "", Ignored => "Ignored.";
    "peer-election-timeout", Text, "", Ignored => "Ignored.";
    "retry-interval", Text, "", Ignored => "Ignored.";
    "snapshot", Bool, "false", Ignored => "Ignored.";
    "v", Bool, "false", Ignored => "Ignored.";
    "vv", Bool, "false", Ignored => "Ignored.";
}
