//! Leases of the fake member. Nothing expires.

use std::sync::atomic::{AtomicI64, Ordering};

use keelson_core::state::auth::Access;
use keelson_proto::etcdserverpb::*;

use super::Fake;
use super::header::full;
use crate::Error;
use crate::backend::Backend;

/// The next id that a member chooses.
static NEXT_ID: AtomicI64 = AtomicI64::new(1 << 32);

/// The request with an id, as a member proposes it.
pub(super) fn with_id(mut request: LeaseGrantRequest) -> LeaseGrantRequest {
    if request.id == 0 {
        request.id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    }
    request
}

impl Fake {
    /// Waits, as a put does, while the fake holds requests back.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        if self.condition().leaderless {
            return Err(Error::TooManyRequests);
        }
        self.opened().await;
        let lease = self.0.view.lease(id);
        Ok(LeaseKeepAliveResponse {
            header: full(None),
            id,
            ttl: lease.map_or(0, |lease| lease.ttl),
        })
    }

    pub(super) fn time_to_live(&self, request: &LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse {
        let lease = self.0.view.lease(request.id);
        let mut keys = self.0.view.lease_keys(request.id);
        keys.retain(|_| request.keys);
        LeaseTimeToLiveResponse {
            header: full(None),
            id: request.id,
            ttl: lease.map_or(-1, |lease| lease.ttl),
            granted_ttl: lease.map_or(0, |lease| lease.ttl),
            keys,
        }
    }

    pub(super) fn all_leases(&self) -> Result<LeaseLeasesResponse, Error> {
        self.authorize(Access::Leases)?;
        let leases = self.0.view.leases().into_iter();
        Ok(LeaseLeasesResponse {
            header: full(None),
            leases: leases.map(|lease| LeaseStatus { id: lease.id }).collect(),
        })
    }
}
