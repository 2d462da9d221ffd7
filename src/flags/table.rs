//! The flags of a member: its own, clustering, logging, and the unsafe ones.

use keelson_store::config::StorageEngine;

use super::{Effect::*, Flag, Group, Kind::*, group, reasons::*};

group! { MEMBER, "Member",
    "name", Text, "default", Works =>
        "Human-readable name for this member.";
    "data-dir", Text, "", Works =>
        "Path to the data directory; '${name}.etcd' when empty.";
    "wal-dir", Text, "", Works =>
        "Path to the dedicated wal directory.";
    "storage-engine", OneOf(StorageEngine::COMPILED), StorageEngine::DEFAULT.name(), Works =>
        "Storage engine: lmdb, sled (pure Rust), or memory (for tests). Keelson's own flag.";
    "snapshot-count", Count, "10000", Works =>
        "Number of committed transactions to trigger a snapshot to disk.";
    "heartbeat-interval", Count, "100", Works =>
        "Time (in milliseconds) of a heartbeat interval.";
    "election-timeout", Count, "1000", Works =>
        "Time (in milliseconds) for an election to timeout: at least 5 heartbeats, at most 50000.";
    "initial-election-tick-advance", Bool, "true", Works =>
        "Whether to fast-forward initial election ticks on boot for faster election.";
    "listen-peer-urls", Urls, "http://localhost:2380", Works =>
        "List of URLs to listen on for peer traffic.";
    "listen-client-urls", Urls, "http://localhost:2379", Works =>
        "List of URLs to listen on for client traffic, gRPC and HTTP alike.";
    "listen-client-http-urls", MaybeUrls, "", Works =>
        "List of further URLs to listen on for client traffic, which serve gRPC as well.";
    "max-snapshots", Count, "5", Inert(ONE_SNAPSHOT) =>
        "Maximum number of snapshot files to retain (0 is unlimited).";
    "max-wals", Count, "5", Inert(LOG_IS_CUT) =>
        "Maximum number of wal files to retain (0 is unlimited).";
    "memory-mlock", Bool, "false", Inert(PAGE_CACHE) =>
        "Enable to enforce etcd pages (in particular bbolt) to stay in RAM.";
    "quota-backend-bytes", Signed, "0", Works =>
        "Raise alarms when backend size exceeds the given quota (0: 2 GiB, negative: no quota).";
    "backend-bbolt-freelist-type", Text, "map", Inert(NO_BBOLT) =>
        "Freelist type of bbolt, which Keelson does not use.";
    "backend-batch-interval", Duration, "0", Works =>
        "Maximum time before the storage engine commits (0: 100ms). Writes do not wait for it.";
    "backend-batch-limit", Count, "0", Works =>
        "Maximum operations before the storage engine commits (0: 10000).";
    "max-txn-ops", Count, "128", Works =>
        "Maximum number of operations permitted in a transaction.";
    "max-request-bytes", Count, "1572864", Works =>
        "Maximum client request size in bytes the server will accept.";
    "max-concurrent-streams", Count32, "4294967295", Works =>
        "Maximum concurrent streams that each client can open at a time (4294967295: 4096).";
    "connection-rate-limit", Count32, "0", Works =>
        "Requests a second of one client connection (0: no limit). Keelson's own flag.";
    "connection-rate-burst", Count32, "0", Works =>
        "Requests at once with --connection-rate-limit (0: those of a second). Keelson's own flag.";
    "user-rate-limit", Count32, "0", Works =>
        "Requests a second of one authenticated user (0: no limit). Keelson's own flag.";
    "user-rate-burst", Count32, "0", Works =>
        "Requests at once with --user-rate-limit (0: those of a second). Keelson's own flag.";
    "grpc-keepalive-min-time", Duration, "5s", Works =>
        "Minimum duration interval that a client should wait before pinging server.";
    "grpc-keepalive-interval", Duration, "2h", Works =>
        "Frequency duration of server-to-client ping to check if a connection is alive.";
    "grpc-keepalive-timeout", Duration, "20s", Works =>
        "Additional duration of wait before closing a non-responsive connection.";
    "socket-reuse-port", Bool, "false", Inert(ONE_PROCESS) =>
        "Enable to set socket option SO_REUSEPORT on listeners.";
    "socket-reuse-address", Bool, "false", Inert(ALWAYS_ON) =>
        "Enable to set socket option SO_REUSEADDR on listeners (always on in Keelson).";
    "enable-grpc-gateway", Bool, "true", Unsupported(GATEWAY) =>
        "Enable the JSON gateway (always on in Keelson).";
    "raft-read-timeout", Duration, "5s", Inert(OWN_TIMES) =>
        "Read timeout set on each peer connection.";
    "raft-write-timeout", Duration, "5s", Inert(OWN_TIMES) =>
        "Write timeout set on each peer connection.";
    "feature-gates", Text, "", Works =>
        "A set of key=value pairs that describe gates for alpha/experimental features.";
}

group! { CLUSTERING, "Clustering",
    "initial-advertise-peer-urls", Urls, "http://localhost:2380", Works =>
        "List of this member's peer URLs to advertise to the rest of the cluster.";
    "initial-cluster", Cluster, "default=http://localhost:2380", Works =>
        "Initial cluster configuration for bootstrapping: name=url,name=url,...";
    "initial-cluster-state", OneOf(&["new", "existing"]), "new", Works =>
        "Initial cluster state ('new' or 'existing').";
    "initial-cluster-token", Text, "etcd-cluster", Works =>
        "Initial cluster token for the cluster during bootstrap.\n\
         It separates clusters that have the same URLs.";
    "advertise-client-urls", Urls, "http://localhost:2379", Works =>
        "List of this member's client URLs to advertise to the public.";
    "discovery", Text, "", Works =>
        "Discovery URL used to bootstrap the cluster.";
    "discovery-token", Text, "", Works =>
        "V3 discovery: token of the cluster to be bootstrapped.";
    "discovery-endpoints", Text, "", Works =>
        "V3 discovery: gRPC endpoints of the discovery service.";
    "discovery-dial-timeout", Duration, "2s", Works =>
        "V3 discovery: dial timeout for client connections.";
    "discovery-request-timeout", Duration, "5s", Works =>
        "V3 discovery: timeout for discovery requests.";
    "discovery-keepalive-time", Duration, "2s", Works =>
        "V3 discovery: keepalive time for client connections.";
    "discovery-keepalive-timeout", Duration, "6s", Works =>
        "V3 discovery: keepalive timeout for client connections.";
    "discovery-insecure-transport", Bool, "true", Works =>
        "V3 discovery: disable transport security for client connections.";
    "discovery-insecure-skip-tls-verify", Bool, "false", Works =>
        "V3 discovery: skip server certificate verification.";
    "discovery-cert", Text, "", Works =>
        "V3 discovery: TLS certificate file of this client.";
    "discovery-key", Text, "", Works =>
        "V3 discovery: TLS key file of this client.";
    "discovery-cacert", Text, "", Works =>
        "V3 discovery: CA bundle to verify the service with.";
    "discovery-user", Text, "", Unsupported(DISCOVERY) =>
        "V3 discovery: username[:password] for authentication.";
    "discovery-password", Secret, "", Unsupported(DISCOVERY) =>
        "V3 discovery: password for authentication.";
    "discovery-fallback", OneOf(&["exit", "proxy"]), "proxy", Works =>
        "Role of a host that comes when the cluster is complete: 'proxy', or 'exit' for an error.";
    "discovery-proxy", Text, "", Works =>
        "HTTP proxy to use for traffic to discovery service.";
    "discovery-srv", Text, "", Works =>
        "DNS srv domain used to bootstrap the cluster.";
    "discovery-srv-name", Text, "", Works =>
        "Suffix to the dns srv name queried when bootstrapping.";
    "strict-reconfig-check", Bool, "true", Works =>
        "Reject reconfiguration requests that would cause quorum loss.";
    "pre-vote", Bool, "true", Works =>
        "Run a pre-vote before an election: a member with a bad link does not depose the leader.";
    "auto-compaction-retention", Retention, "0", Works =>
        "Auto compaction retention length: hours, a duration such as 30m, or a number of\n\
         revisions. 0 means disable auto compaction.";
    "auto-compaction-mode", Text, "periodic", Works =>
        "Interpret 'auto-compaction-retention' one of: periodic|revision.";
    "enable-v2", Bool, "true", Works =>
        "Accept etcd V2 client requests. On by default, unlike in etcd 3.4, since Deis uses V2.";
    "v2-ttl-grace", Duration, "20s", Works =>
        "Time that a new leader gives overdue keys of the V2 API, so that their owners can\n\
         renew them. Longer than a heartbeat.";
    "v2-deprecation", Text, "write-only", Inert(V2_STAYS) =>
        "Phase of v2store deprecation.";
}

group! { LOGGING, "Logging",
    "logger", Text, "", Works =>
        "'zap' for JSON lines, 'capnslog' for text; empty: text on a terminal, JSON otherwise.";
    "log-outputs", Text, "default", Works =>
        "Comma separated list of 'stdout', 'stderr', 'default' (stderr) and file paths.";
    "log-output", Text, "", Works =>
        "Old name of --log-outputs.";
    "log-level", OneOf(LEVELS), "info", Works =>
        "Configures log level: debug, info, warn, error, panic, or fatal.";
    "log-format", OneOf(&["", "json", "console"]), "", Works =>
        "'json' or 'console'; has precedence over --logger.";
    "enable-log-rotation", Bool, "false", Works =>
        "Enable log rotation of a single log-outputs file target.";
    "log-rotation-config-json", Text, ROTATION, Works =>
        "Configures log rotation if enabled: maxsize in MiB, maxage in days, and maxbackups\n\
         (0: no limit), compress.";
    "debug", Bool, "false", Works =>
        "Enable debug-level logging; --log-level=debug is the newer name.";
    "log-package-levels", Text, "", Inert(ONE_LEVEL) =>
        "Specify a particular log level for each etcd package.";
    "disable-log-sampling", Bool, "false", Inert(NO_SAMPLING) =>
        "Disable log sampling.";
    "warning-unary-request-duration", Duration, "300ms", Works =>
        "Time after which a slow unary request is logged.";
}

/// lumberjack's fields, with its defaults.
const ROTATION: &str = concat!(
    r#"{"maxsize":100,"maxage":0,"maxbackups":0,"#,
    r#""localtime":false,"compress":false}"#
);

const LEVELS: &[&str] = &["debug", "info", "warn", "error", "dpanic", "panic", "fatal"];

group! { UNSAFE, "Unsafe feature",
    "force-new-cluster", Bool, "false", Works =>
        "Force to create a new one-member cluster.";
    "unsafe-no-fsync", Bool, "false", Works =>
        "Disables fsync, unsafe, will cause data loss.";
}
