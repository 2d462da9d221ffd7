//! Hosts that are started as operators start them: an environment, a discovery URL, and nothing that
//! says who is a member. Real processes, real etcd, Debian's etcd-discovery.
//!
//! `KEELSON_SOAK=1` goes through many more orders of events.

mod founding;
mod peers;
mod proxied;
mod roles;
mod sizes;
mod ways;
