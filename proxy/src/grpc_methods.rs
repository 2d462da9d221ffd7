//! etcd's gRPC methods: which of them only read, and which are unary.

/// Methods that change nothing.
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
    // It creates a token, which reads need.
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

/// Members may answer these from their own state, and clients call them to see what they have just
/// changed. So they go to the leader. (Accounts are read with a quorum.)
const LISTS: [&str; 2] = [
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Lease/LeaseLeases",
];

/// Services whose methods are listed here.
const SERVICES: [&str; 4] = [
    "/etcdserverpb.",
    "/v3lockpb.",
    "/v3electionpb.",
    "/grpc.health.v1.",
];

/// Methods whose client sends a stream of messages.
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// A stream that another member can continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resumable {
    Watch,
    KeepAlive,
}

/// The properties of a method that decide how its calls are forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    /// It changes nothing.
    pub(crate) read: bool,
    /// The nearest member may answer it; otherwise the leader is preferred.
    pub(crate) nearest: bool,
    /// The client sends one message. Not assumed of unknown methods.
    pub(crate) unary: bool,
    /// The stream, if another member can continue it.
    pub(crate) resumable: Option<Resumable>,
}

impl Kind {
    pub(crate) fn of(path: &str) -> Kind {
        let read = READS.contains(&path);
        let known = SERVICES.iter().any(|prefix| path.starts_with(prefix));
        let resumable = match path {
            WATCH => Some(Resumable::Watch),
            KEEP_ALIVE => Some(Resumable::KeepAlive),
            _ => None,
        };
        Kind {
            read,
            nearest: read && !LISTS.contains(&path),
            unary: known && resumable.is_none(),
            resumable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_paths() {
        let cases = [
            ("/etcdserverpb.KV/Range", (true, true, true)),
            ("/etcdserverpb.KV/Txn", (false, false, true)),
            ("/etcdserverpb.Lease/LeaseGrant", (false, false, true)),
            ("/etcdserverpb.Watch/Watch", (true, true, false)),
            (LISTS[0], (true, false, true)),
            (LISTS[1], (true, false, true)),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                (false, false, false),
            ),
        ];
        for (path, expected) in cases {
            let kind = Kind::of(path);
            let found = (kind.read, kind.nearest, kind.unary);
            assert_eq!(found, expected, "{path}");
        }
    }
}
