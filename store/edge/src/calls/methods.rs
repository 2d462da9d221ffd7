//! The methods of the client port, with the labels that go-grpc-prometheus gives them.

use self::Kind::{Bidi, ServerStream, Unary};

/// The kind of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    ServerStream,
    Bidi,
}

impl Kind {
    /// The value of `grpc_type`.
    pub(super) fn label(self) -> &'static str {
        match self {
            Unary => "unary",
            ServerStream => "server_stream",
            Bidi => "bidi_stream",
        }
    }
}

/// Service, method and kind; the most frequent methods first.
pub(super) const METHODS: &[(&str, &str, Kind)] = &[
    ("etcdserverpb.KV", "Range", Unary),
    ("etcdserverpb.KV", "Put", Unary),
    ("etcdserverpb.KV", "Txn", Unary),
    ("etcdserverpb.KV", "DeleteRange", Unary),
    ("etcdserverpb.Watch", "Watch", Bidi),
    ("etcdserverpb.Lease", "LeaseKeepAlive", Bidi),
    ("etcdserverpb.KV", "RangeStream", ServerStream),
    ("etcdserverpb.KV", "Compact", Unary),
    ("etcdserverpb.Lease", "LeaseGrant", Unary),
    ("etcdserverpb.Lease", "LeaseRevoke", Unary),
    ("etcdserverpb.Lease", "LeaseTimeToLive", Unary),
    ("etcdserverpb.Lease", "LeaseLeases", Unary),
    ("etcdserverpb.Cluster", "MemberAdd", Unary),
    ("etcdserverpb.Cluster", "MemberRemove", Unary),
    ("etcdserverpb.Cluster", "MemberUpdate", Unary),
    ("etcdserverpb.Cluster", "MemberList", Unary),
    ("etcdserverpb.Cluster", "MemberPromote", Unary),
    ("etcdserverpb.Maintenance", "Alarm", Unary),
    ("etcdserverpb.Maintenance", "Status", Unary),
    ("etcdserverpb.Maintenance", "Defragment", Unary),
    ("etcdserverpb.Maintenance", "Hash", Unary),
    ("etcdserverpb.Maintenance", "HashKV", Unary),
    ("etcdserverpb.Maintenance", "Snapshot", ServerStream),
    ("etcdserverpb.Maintenance", "MoveLeader", Unary),
    ("etcdserverpb.Maintenance", "Downgrade", Unary),
    ("etcdserverpb.Auth", "AuthEnable", Unary),
    ("etcdserverpb.Auth", "AuthDisable", Unary),
    ("etcdserverpb.Auth", "AuthStatus", Unary),
    ("etcdserverpb.Auth", "Authenticate", Unary),
    ("etcdserverpb.Auth", "UserAdd", Unary),
    ("etcdserverpb.Auth", "UserGet", Unary),
    ("etcdserverpb.Auth", "UserList", Unary),
    ("etcdserverpb.Auth", "UserDelete", Unary),
    ("etcdserverpb.Auth", "UserChangePassword", Unary),
    ("etcdserverpb.Auth", "UserGrantRole", Unary),
    ("etcdserverpb.Auth", "UserRevokeRole", Unary),
    ("etcdserverpb.Auth", "RoleAdd", Unary),
    ("etcdserverpb.Auth", "RoleGet", Unary),
    ("etcdserverpb.Auth", "RoleList", Unary),
    ("etcdserverpb.Auth", "RoleDelete", Unary),
    ("etcdserverpb.Auth", "RoleGrantPermission", Unary),
    ("etcdserverpb.Auth", "RoleRevokePermission", Unary),
    ("v3lockpb.Lock", "Lock", Unary),
    ("v3lockpb.Lock", "Unlock", Unary),
    ("v3electionpb.Election", "Campaign", Unary),
    ("v3electionpb.Election", "Proclaim", Unary),
    ("v3electionpb.Election", "Leader", Unary),
    ("v3electionpb.Election", "Observe", ServerStream),
    ("v3electionpb.Election", "Resign", Unary),
    ("grpc.health.v1.Health", "Check", Unary),
    ("grpc.health.v1.Health", "Watch", ServerStream),
    ("keelsonpb.Usage", "Get", Unary),
];

/// A method of [`METHODS`], by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method(pub(super) usize);

impl Method {
    /// The method of a path; `None` if there is none.
    pub(crate) fn at(path: &str) -> Option<Method> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let mut methods = METHODS.iter();
        let found = methods.position(|(of, name, _)| *name == method && *of == service);
        found.map(Method)
    }

    /// The names of its service and of itself.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        let (service, method, _) = METHODS[self.0];
        (service, method)
    }

    /// Whether its answer is a stream.
    pub(crate) fn is_stream(self) -> bool {
        METHODS[self.0].2 != Unary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found() {
        let found = Method::at("/etcdserverpb.Watch/Watch");
        let entry = found.map(|method| METHODS[method.0]);
        assert_eq!(entry, Some(("etcdserverpb.Watch", "Watch", Bidi)));
        assert_eq!(found.map(Method::is_stream), Some(true));
        let range = Method::at("/etcdserverpb.KV/Range");
        assert_eq!(range.map(Method::is_stream), Some(false));
        assert_eq!(Method::at("/etcdserverpb.KV/Watch"), None);
        assert_eq!(Method::at("Range"), None);
    }
}
