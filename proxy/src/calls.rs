//! What is known of etcd's gRPC methods: which read, and which are one message each way.

/// A method that changes nothing.
const READS: [&str; 21] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.Auth/AuthStatus",
    // It makes a token, without which nothing can be read.
    "/etcdserverpb.Auth/Authenticate",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList",
    "/v3electionpb.Election/Leader",
    "/v3electionpb.Election/Observe",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
];

/// A method whose client sends many messages.
const STREAMS: [&str; 2] = [
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
];

/// Whether a call changes nothing.
pub(crate) fn reads(path: &str) -> bool {
    READS.contains(&path)
}

/// Whether the client sends one message and waits; unknown methods may do otherwise.
pub(crate) fn is_unary(path: &str) -> bool {
    let known = [
        "/etcdserverpb.",
        "/v3lockpb.",
        "/v3electionpb.",
        "/grpc.health.v1.",
    ];
    known.iter().any(|prefix| path.starts_with(prefix)) && !STREAMS.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_paths() {
        assert!(reads("/etcdserverpb.KV/Range"));
        assert!(!reads("/etcdserverpb.KV/Txn"));
        assert!(!reads("/etcdserverpb.Lease/LeaseGrant"));
        assert!(is_unary("/etcdserverpb.KV/Put"));
        assert!(!is_unary("/etcdserverpb.Watch/Watch"));
        assert!(!is_unary(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        ));
    }
}
