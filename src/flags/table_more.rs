//! Flags of monitoring, backups, the v2 proxy and features, and old names.

use super::{Effect::*, Flag, Group, Kind::*, group, reasons::*};

group! { MONITORING, "Profiling and Monitoring",
    "enable-pprof", Bool, "false", Works =>
        "Enable runtime profiling data via HTTP server: /debug/pprof/profile on the client port.";
    "metrics", OneOf(&["basic", "extensive"]), "basic", Works =>
        "Set level of detail for exported metrics, specify 'extensive' to include server side\n\
         grpc histogram metrics.";
    "listen-metrics-urls", MaybeUrls, "", Works =>
        "List of URLs to listen on for the metrics and health endpoints.";
    "enable-distributed-tracing", Bool, "false", Works =>
        "Enable distributed tracing: OpenTelemetry's spans of gRPC calls, sent by OTLP over gRPC.";
    "distributed-tracing-address", Text, "localhost:4317", Works =>
        "Distributed tracing collector address, host:port without TLS.";
    "distributed-tracing-service-name", Text, "etcd", Works =>
        "Distributed tracing service name.";
    "distributed-tracing-instance-id", Text, "", Works =>
        "Distributed tracing instance ID.";
    "distributed-tracing-sampling-rate", Count, "0", Works =>
        "Number of samples to collect per million spans. Calls with a sampled traceparent have\n\
         spans besides.";
}

group! { PROXY, "v2 Proxy",
    "proxy", OneOf(&["off", "readonly", "on"]), "off", Works =>
        "Proxy mode setting ('off', 'readonly' or 'on').";
    "proxy-failure-wait", Count, "5000", Works =>
        "Time (in milliseconds) an endpoint will be held in a failed state.";
    "proxy-refresh-interval", Count, "30000", Works =>
        "Time (in milliseconds) of the endpoints refresh interval.";
    "proxy-dial-timeout", Count, "1000", Works =>
        "Time (in milliseconds) for a dial to timeout.";
    "proxy-write-timeout", Count, "5000", Works =>
        "Time (in milliseconds) for a write to timeout.";
    "proxy-read-timeout", Count, "0", Inert(CUTS_WATCHES) =>
        "Time (in milliseconds) for a read to timeout. Anything but 0 would cut watches.";
}

group! { FEATURES, "Features",
    "config-file", Text, "", Works =>
        "Path to the server configuration file, YAML or JSON with etcd's keys. Other flags, and\n\
         variables but ETCD_CONFIG_FILE, are then ignored.";
    "corrupt-check-time", Duration, "0s", Works =>
        "Duration of time between cluster corruption check passes.";
    "compact-hash-check-time", Duration, "1m", Works =>
        "Duration of time between leader checks followers compaction hashes.";
    "compaction-batch-limit", Count, "1000", Inert(OWN_STEPS) =>
        "Maximum revisions deleted in each compaction batch.";
    "compaction-sleep-interval", Duration, "10ms", Inert(OWN_STEPS) =>
        "Sleep interval between each compaction batch.";
    "watch-progress-notify-interval", Duration, "10m", Works =>
        "Duration of periodical watch progress notification.";
    "warning-apply-duration", Duration, "100ms", Works =>
        "Time after which a slow apply is logged.";
    "bootstrap-defrag-threshold-megabytes", Count, "0", Works =>
        "Defragment after the start when that frees at least so much (0: never). Requests are\n\
         served meanwhile.";
    "max-learners", Count, "1", Works =>
        "Maximum number of learner members in the cluster membership.";
    "downgrade-check-time", Duration, "5s", Inert(ENDS_ITSELF) =>
        "Duration of time between two downgrade status checks.";
    "snapshot-catchup-entries", Count, "5000", Works =>
        "Number of entries kept for a slow follower after the log is compacted.";
    "backup-dir", Text, "", Works =>
        "Directory, or s3://BUCKET/PREFIX, in which this member saves snapshots at an interval;\n\
         empty for none.";
    "backup-interval", Duration, "1h", Works =>
        "Time between two snapshots of --backup-dir, 1s or more.";
    "backup-keep", Count, "24", Works =>
        "Number of snapshots that --backup-dir keeps; older ones are removed.";
}

group! { EXPERIMENTAL, "Experimental names of etcd 2 to 3.5",
    "experimental-initial-corrupt-check", Bool, "false", Works =>
        "Check data corruption before serving any client/peer traffic.";
    "experimental-corrupt-check-time", Duration, "0s", Works =>
        "Now --corrupt-check-time.";
    "experimental-compact-hash-check-enabled", Bool, "false", Works =>
        "Let the leader check followers' compaction hashes.";
    "experimental-compact-hash-check-time", Duration, "1m", Works =>
        "Now --compact-hash-check-time.";
    "experimental-enable-v2v3", Text, "", Unsupported(OWN_STORE) =>
        "Serve v2 requests through the v3 backend under a given prefix.";
    "experimental-backend-bbolt-freelist-type", Text, "array", Inert(NO_BBOLT) =>
        "Now --backend-bbolt-freelist-type.";
    "experimental-enable-lease-checkpoint", Bool, "false", Inert(LEASES_LAST) =>
        "Let the leader persist the remaining TTL of leases.";
    "experimental-enable-lease-checkpoint-persist", Bool, "false", Inert(LEASES_LAST) =>
        "Persist the remaining TTL of leases.";
    "experimental-compaction-batch-limit", Count, "1000", Inert(OWN_STEPS) =>
        "Now --compaction-batch-limit.";
    "experimental-compaction-sleep-interval", Duration, "10ms", Inert(OWN_STEPS) =>
        "Now --compaction-sleep-interval.";
    "experimental-peer-skip-client-san-verification", Bool, "false", Works =>
        "Now --peer-skip-client-san-verification.";
    "experimental-watch-progress-notify-interval", Duration, "10m", Works =>
        "Now --watch-progress-notify-interval.";
    "experimental-warning-apply-duration", Duration, "100ms", Works =>
        "Now --warning-apply-duration.";
    "experimental-warning-unary-request-duration", Duration, "300ms", Works =>
        "Now --warning-unary-request-duration.";
    "experimental-memory-mlock", Bool, "false", Inert(PAGE_CACHE) =>
        "Now --memory-mlock.";
    "experimental-txn-mode-write-with-shared-buffer", Bool, "true", Inert(NO_BBOLT) =>
        "Share the read buffer with write transactions.";
    "experimental-bootstrap-defrag-threshold-megabytes", Count, "0", Works =>
        "Now --bootstrap-defrag-threshold-megabytes.";
    "experimental-max-learners", Count, "1", Works =>
        "Now --max-learners.";
    "experimental-wait-cluster-ready-timeout", Duration, "5s", Inert(WAITS) =>
        "Longest wait for the cluster before serving.";
    "experimental-snapshot-catchup-entries", Count, "5000", Works =>
        "Now --snapshot-catchup-entries.";
    "experimental-downgrade-check-time", Duration, "5s", Inert(ENDS_ITSELF) =>
        "Now --downgrade-check-time.";
    "experimental-stop-grpc-service-on-defrag", Bool, "false", Inert(NO_PAUSE) =>
        "Stop the gRPC service while defragmenting.";
    "experimental-enable-distributed-tracing", Bool, "false", Works =>
        "Now --enable-distributed-tracing.";
    "experimental-distributed-tracing-address", Text, "localhost:4317", Works =>
        "Now --distributed-tracing-address.";
    "experimental-distributed-tracing-service-name", Text, "etcd", Works =>
        "Now --distributed-tracing-service-name.";
    "experimental-distributed-tracing-instance-id", Text, "", Works =>
        "Now --distributed-tracing-instance-id.";
    "experimental-distributed-tracing-sampling-rate", Count, "0", Works =>
        "Now --distributed-tracing-sampling-rate.";
    "experimental-v3demo", Bool, "false", Inert(ALWAYS_ON) =>
        "The v3 API is always on.";
    "experimental-gRPC-addr", Text, "127.0.0.1:2378", Inert(ONE_ADDRESS) =>
        "gRPC is served on --listen-client-urls.";
    "experimental-auto-compaction-retention", Retention, "0", Works =>
        "Now --auto-compaction-retention.";
}

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
