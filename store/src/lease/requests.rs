//! The requests about leases of a `Store`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use keelson_core::member::LeaseOutcome;
use keelson_core::state::auth::Access;
use keelson_core::state::{self, LEASE_COST, LEASE_TTL_MAX, Response};
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::command::Op;

use crate::requests::unexpected;
use crate::{Error, Store};

/// The times of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// The granted time to live, in seconds.
    pub granted_ttl: i64,
    /// What is left of it, in seconds: all after a renewal.
    pub ttl: i64,
}

impl Store {
    /// Grants a lease. An id of 0 is replaced by a random one, and a time to live below
    /// [`Store::lease_ttl_min`] by that; the response has both.
    ///
    /// # Errors
    /// etcd's: the id is taken, the time to live is too large; and those of [`Store::put`].
    pub async fn lease_grant(
        &self,
        request: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Error> {
        if LEASE_TTL_MAX < request.ttl {
            // As in etcd the caller is checked first.
            self.authorize_now(Access::AnyUser).await?;
            return Err(Error::State(state::Error::LeaseTtlTooLarge));
        }
        let ttl = request.ttl.max(self.lease_ttl_min());
        let id = match request.id {
            0 => random_id(),
            id => id,
        };
        let op = Op::LeaseGrant(LeaseGrantRequest { id, ttl });
        match self.propose_if_room(op, LEASE_COST).await? {
            Response::LeaseGrant(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The shortest time to live, in seconds: one and a half election timeouts, rounded up.
    pub fn lease_ttl_min(&self) -> i64 {
        let min = (3 * self.config().election_ms).div_ceil(2).div_ceil(1_000);
        i64::try_from(min).unwrap_or(LEASE_TTL_MAX)
    }

    /// Revokes a lease. Its keys are deleted in one revision.
    ///
    /// # Errors
    /// etcd's: no such lease; and those of [`Store::put`].
    pub async fn lease_revoke(
        &self,
        request: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Error> {
        match self.propose(Op::LeaseRevoke(request)).await? {
            Response::LeaseRevoke(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Renews a lease, through the leader and without an entry in the log. A time to live of 0
    /// means that there is no such lease. Cancel safe: the lease may be renewed all the same.
    ///
    /// # Errors
    /// `Timeout` and its variants when no leader confirms it in time; `TooManyRequests`.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        self.view().require_unfenced()?;
        self.authorize_now(Access::AnyUser).await?;
        self.refuse_standby()?;
        // Of before the renewal: the response must not claim a later state than it has.
        let mut header = self.lease_header();
        let times = self.lease_call(id, true).await?;
        self.inner
            .metrics
            .leases_renewed
            .add(times.is_some().into());
        self.fill(&mut header);
        let ttl = times.map_or(0, |times| times.ttl);
        Ok(LeaseKeepAliveResponse { header, id, ttl })
    }

    /// The times of a lease at the leader, and with `keys` the attached keys. A time to live of -1
    /// means that there is no such lease.
    ///
    /// # Errors
    /// As [`Store::lease_keep_alive`].
    pub async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        self.view().require_unfenced()?;
        self.authorize_now(Access::LeaseTimes(&request)).await?;
        let id = request.id;
        let times = self.lease_call(id, false).await?;
        let mut keys = Vec::new();
        if request.keys && times.is_some() {
            self.read_index().await?;
            // Keys may have been attached, or rights revoked.
            self.authorize(Access::LeaseTimes(&request))?;
            keys = self.view().lease_keys(id);
        }
        // As a whole: it may have been found to differ meanwhile.
        self.view().require_unfenced()?;
        let mut header = self.lease_header();
        self.fill(&mut header);
        Ok(LeaseTimeToLiveResponse {
            header,
            id,
            ttl: times.map_or(-1, |times| times.ttl),
            granted_ttl: times.map_or(0, |times| times.granted_ttl),
            keys,
        })
    }

    /// Every lease in this member's applied state, by id.
    ///
    /// # Errors
    /// Those of [`Store::authorize`].
    pub fn leases(&self) -> Result<LeaseLeasesResponse, Error> {
        self.view().require_unfenced()?;
        self.authorize(Access::Leases)?;
        let mut header = self.lease_header();
        self.fill(&mut header);
        let leases = self.view().leases().into_iter();
        let leases = leases.map(|lease| LeaseStatus { id: lease.id }).collect();
        Ok(LeaseLeasesResponse { header, leases })
    }

    fn lease_header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.view().revision(),
            ..ResponseHeader::default()
        })
    }

    /// The leader's answer about a lease; `None` if there is no such lease.
    async fn lease_call(&self, id: i64, renew: bool) -> Result<Option<LeaseTimes>, Error> {
        let began = Instant::now();
        let outcome = self.inner.lessor.request(id, renew)?;
        // The lessor answers at the deadline; the longer time is for one that has died.
        let patience = self.request_timeout() + Duration::from_secs(2);
        match tokio::time::timeout(patience, outcome).await {
            Ok(Ok(LeaseOutcome::Alive { granted_ttl, ttl })) => {
                Ok(Some(LeaseTimes { granted_ttl, ttl }))
            }
            Ok(Ok(LeaseOutcome::Absent)) => Ok(None),
            Ok(Ok(LeaseOutcome::TimedOut)) | Err(_) => Err(self.timeout_error(began)),
            Ok(Err(_)) => Err(Error::Stopped),
        }
    }
}

/// A positive random id: the standard library seeds its hash maps from the system's randomness.
fn random_id() -> i64 {
    let drawn = RandomState::new().build_hasher().finish();
    let id = drawn & i64::MAX.unsigned_abs();
    i64::try_from(id).unwrap_or(1).max(1)
}
