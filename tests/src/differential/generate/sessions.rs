//! Operations on leases and watches.

use keelson_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    WatchCreateRequest,
};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::{Generator, LEASES, NO_LEASE, Operation};

/// A lease must outlive the generated operations: the time of an expiry is not determined.
const TTLS: [i64; 4] = [100_000, 1_000_000, 9_000_000_000, 9_000_000_001];

/// The largest number of watchers at a time.
const WATCHERS_MAX: usize = 24;

impl Generator {
    /// A lease that exists perhaps.
    pub(super) fn some_lease(&mut self) -> i64 {
        *LEASES.choose(&mut self.rng).expect("there are leases")
    }

    fn any_lease(&mut self) -> i64 {
        match self.rng.random_range(0..20) {
            0 => NO_LEASE,
            1 => -1,
            2 => 0,
            _ => self.some_lease(),
        }
    }

    /// An operation on a lease.
    pub(in crate::differential) fn lease(&mut self) -> Operation {
        match self.rng.random_range(0..100) {
            0..35 => Operation::Grant(LeaseGrantRequest {
                // Without an id the server chooses one.
                id: self.some_lease(),
                ttl: *TTLS.choose(&mut self.rng).expect("there are times"),
            }),
            35..50 => Operation::Revoke(LeaseRevokeRequest {
                id: self.any_lease(),
            }),
            50..80 => Operation::TimeToLive(LeaseTimeToLiveRequest {
                id: self.any_lease(),
                keys: self.often(70),
            }),
            80..90 => Operation::Leases,
            _ => Operation::KeepAlive(LeaseKeepAliveRequest {
                id: self.any_lease(),
            }),
        }
    }

    /// An operation on the stream of watchers.
    pub(super) fn watch(&mut self) -> Operation {
        let room = self.watchers.len() < WATCHERS_MAX;
        match self.rng.random_range(0..100) {
            0..55 if room => Operation::Watch(self.watcher()),
            55..60 => Operation::CancelWatch(-self.rng.random_range(1..1_000)),
            _ => match self.watchers.choose(&mut self.rng) {
                Some(id) => Operation::CancelWatch(*id),
                None => Operation::Watch(self.watcher()),
            },
        }
    }

    pub(in crate::differential) fn watcher(&mut self) -> WatchCreateRequest {
        let key = self.key();
        let range_end = self.end(&key);
        let filters = match self.rng.random_range(0..10) {
            0 => vec![0],
            1 => vec![1],
            2 => vec![0, 1],
            3 => vec![7, 1],
            _ => Vec::new(),
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.start(),
            progress_notify: self.often(20),
            filters,
            prev_kv: self.often(50),
            watch_id: self.watch_id(),
            fragment: self.often(20),
        }
    }

    /// The first revision of a watch; 0 is the next one. Negative ones are missing: etcd 3.4
    /// creates such a watch before it ends it, later releases refuse it.
    fn start(&mut self) -> i64 {
        match self.rng.random_range(0..40) {
            0..16 => 0,
            16..34 => self
                .rng
                .random_range(self.compacted.max(1)..=self.revision.max(1)),
            34 | 35 => self.compacted.max(1),
            36 => (self.compacted - 1).max(0),
            _ => self.revision + self.rng.random_range(1..6),
        }
    }

    /// The id of a watcher: mostly the server's choice, sometimes one in use.
    fn watch_id(&mut self) -> i64 {
        self.watch_ids += 1;
        match self.rng.random_range(0..10) {
            0 => 1_000_000 + self.watch_ids,
            1 => -1_000_000 - self.watch_ids,
            2 => self.watchers.choose(&mut self.rng).copied().unwrap_or(0),
            _ => 0,
        }
    }
}
