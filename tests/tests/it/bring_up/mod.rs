//! Hosts that are started as operators start them: with an environment and a discovery URL, and
//! without a role. Real processes, real etcd, Debian's etcd-discovery.
//!
//! `KEELSON_SOAK=1` runs many more orders of events.

mod founding;
mod peers;
mod proxied;
mod roles;
mod sizes;
mod ways;
