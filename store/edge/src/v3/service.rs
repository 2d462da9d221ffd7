//! The names of the services.

/// One of the services. Each method but `KEEP_ALIVE` has one message in its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Kv,
    Lease,
    Lock,
    Election,
    Auth,
    Cluster,
    Maintenance,
    Health,
    Usage,
}

impl Service {
    /// The service of a path's first part.
    pub(super) fn named(name: &str) -> Option<Service> {
        match name {
            "etcdserverpb.KV" => Some(Service::Kv),
            "etcdserverpb.Lease" => Some(Service::Lease),
            "v3lockpb.Lock" => Some(Service::Lock),
            "v3electionpb.Election" => Some(Service::Election),
            "etcdserverpb.Auth" => Some(Service::Auth),
            "etcdserverpb.Cluster" => Some(Service::Cluster),
            "etcdserverpb.Maintenance" => Some(Service::Maintenance),
            "grpc.health.v1.Health" => Some(Service::Health),
            "keelsonpb.Usage" => Some(Service::Usage),
            _ => None,
        }
    }
}
