//! The interface of a member for the edge: the methods of `Store` as a trait, so that the edge
//! can be tested without one.
//!
//! Requests are validated behind this trait (`keelson_core::state::check` has the rules), so that
//! programs that embed a `Store` get the same errors as clients.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keelson_core::state::auth::{Access, Auth, Caller};
use keelson_core::watch::WatchStream;
use keelson_core::{ClusterId, MemberId};
use keelson_port::metrics::Exposition;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::AuthChange;
use keelson_proto::keelsonpb::UsageResponse;
use tokio_stream::Stream;

use crate::v3::auth::JwtKeys;
use crate::{Error, SeenTokens, TokenSignature};

/// The versions that a member reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The version of this member, "3.7.1".
    pub server: String,
    /// The cluster version, "3.7.0"; `None` until the members have agreed on it.
    pub cluster: Option<String>,
    /// The storage version, "3.7.0"; `None` until the cluster version is set.
    pub storage: Option<String>,
}

/// The Raft state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// The member's id.
    pub id: MemberId,
    /// The leader, `MemberId::NONE` if unknown.
    pub leader: MemberId,
    /// The role in etcd's words: "StateLeader".
    pub role: &'static str,
    /// The current term.
    pub term: u64,
    /// The index of the last committed entry.
    pub committed: u64,
    /// The index of the last applied entry.
    pub applied: u64,
}

/// Why a transaction has no answer.
pub struct NoAnswer {
    /// The error of [`Backend::txn`].
    pub error: Error,
    /// The answer, if the transaction may still be applied.
    pub late: Option<LateAnswer>,
}

/// An answer that comes after the timeout. `None` if the transaction was refused, or has no answer
/// within a minute. Its header has the revision.
pub type LateAnswer = Pin<Box<dyn Future<Output = Option<TxnResponse>> + Send>>;

/// A member as the edge uses it. Responses have full headers.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Reads; linearizable unless the request sets `serializable`.
    fn range(
        &self,
        request: RangeRequest,
    ) -> impl Future<Output = Result<RangeResponse, Error>> + Send;

    /// Reads a range in pieces, all at one revision. Each has less than `max_request_bytes`, and
    /// one pair more. Only the last piece has a header, a count and `more`.
    fn range_stream(
        &self,
        request: RangeRequest,
    ) -> impl Stream<Item = Result<RangeResponse, Error>> + Send + use<Self>;

    /// Writes one key.
    fn put(&self, request: PutRequest) -> impl Future<Output = Result<PutResponse, Error>> + Send;

    /// Deletes keys.
    fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> impl Future<Output = Result<DeleteRangeResponse, Error>> + Send;

    /// Evaluates the comparisons and one branch of the transaction atomically.
    fn txn(&self, request: TxnRequest) -> impl Future<Output = Result<TxnResponse, Error>> + Send;

    /// [`Backend::txn`] for a caller that has to undo a transaction whose answer comes too late.
    fn txn_with_late_answer(
        &self,
        request: TxnRequest,
    ) -> impl Future<Output = Result<TxnResponse, NoAnswer>> + Send;

    /// Makes old revisions unreadable.
    fn compact(
        &self,
        request: CompactionRequest,
    ) -> impl Future<Output = Result<CompactionResponse, Error>> + Send;

    /// A stream of watchers. `wake` is called when it may have a message after it had none.
    fn watch(&self, wake: impl Fn() + Send + Sync + 'static) -> WatchStream;

    /// The interval of periodic progress messages, for watchers that request them.
    fn watch_progress_interval(&self) -> Duration;

    /// A header, with the current revision.
    fn header(&self) -> ResponseHeader;

    /// Lists, raises or clears alarms.
    fn alarm(
        &self,
        request: AlarmRequest,
    ) -> impl Future<Output = Result<AlarmResponse, Error>> + Send;

    /// Grants a lease.
    fn lease_grant(
        &self,
        request: LeaseGrantRequest,
    ) -> impl Future<Output = Result<LeaseGrantResponse, Error>> + Send;

    /// Revokes a lease and deletes its keys.
    fn lease_revoke(
        &self,
        request: LeaseRevokeRequest,
    ) -> impl Future<Output = Result<LeaseRevokeResponse, Error>> + Send;

    /// Renews a lease; the time to live is 0 if there is none.
    fn lease_keep_alive(
        &self,
        id: i64,
    ) -> impl Future<Output = Result<LeaseKeepAliveResponse, Error>> + Send;

    /// The times of a lease; the time to live is -1 if there is none.
    fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> impl Future<Output = Result<LeaseTimeToLiveResponse, Error>> + Send;

    /// The leases in the applied state, without waiting.
    fn leases(&self) -> Result<LeaseLeasesResponse, Error>;

    /// The same member for requests of this caller, which are checked while auth is enabled.
    fn acting_as(&self, caller: Caller) -> Self;

    /// Checks a request that no other method of this trait checks: watches, status, readings of
    /// users and roles.
    fn authorize(&self, access: Access<'_>) -> Result<(), Error>;

    /// The same. A refusal is checked again with everything that was committed when it was called:
    /// the right may have been granted at another member.
    fn authorize_now(&self, access: Access<'_>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Users, roles and permissions in the applied state, without waiting.
    fn auth(&self) -> Arc<Auth>;

    /// Whether requests are checked. Called for every request, so it must be fast.
    fn auth_enabled(&self) -> bool;

    /// Whether the certificate of a client without a token names its user.
    fn has_certificate_users(&self) -> bool;

    /// The time after which an unused token ends.
    fn token_ttl(&self) -> Duration;

    /// The keys of JWT tokens and their time to live; `None` where tokens are the cluster's own.
    fn jwt(&self) -> Option<(Arc<JwtKeys>, Duration)>;

    /// The uses of tokens that this member has seen, which the others query. A member without
    /// others need not implement it.
    fn seen_tokens(&self) -> Arc<SeenTokens> {
        Arc::default()
    }

    /// When another member has seen a use of that token last, since 1970. `None` if none has, or
    /// none answers in a second. A member without others need not implement it.
    fn token_used_elsewhere(
        &self,
        _token: TokenSignature,
    ) -> impl Future<Output = Option<Duration>> + Send {
        std::future::ready(None)
    }

    /// The cost of new bcrypt hashes.
    fn bcrypt_cost(&self) -> u32;

    /// Changes users, roles or permissions.
    fn auth_change(
        &self,
        change: AuthChange,
    ) -> impl Future<Output = Result<ResponseHeader, Error>> + Send;

    /// Waits until this member has applied everything that was committed at the time of this call.
    fn read_index(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Waits until this member has applied the entry of that index.
    fn applied(&self, index: u64) -> impl Future<Output = ()> + Send;

    /// The members, by id.
    fn member_list(
        &self,
        linearizable: bool,
    ) -> impl Future<Output = Result<MemberListResponse, Error>> + Send;

    /// Adds a voter or a learner.
    fn member_add(
        &self,
        request: MemberAddRequest,
    ) -> impl Future<Output = Result<MemberAddResponse, Error>> + Send;

    /// Removes a member permanently.
    fn member_remove(
        &self,
        member: MemberId,
    ) -> impl Future<Output = Result<MemberRemoveResponse, Error>> + Send;

    /// Replaces a member's peer URLs.
    fn member_update(
        &self,
        request: MemberUpdateRequest,
    ) -> impl Future<Output = Result<MemberUpdateResponse, Error>> + Send;

    /// Makes a learner a voter.
    fn member_promote(
        &self,
        member: MemberId,
    ) -> impl Future<Output = Result<MemberPromoteResponse, Error>> + Send;

    /// The hash of the stored keys at a revision; 0 is the latest.
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<HashKvResponse, Error>> + Send;

    /// The use of this member by prefix; with `sizes` also the keys and bytes of each.
    fn usage(&self, sizes: bool) -> impl Future<Output = Result<UsageResponse, Error>> + Send;

    /// The hash of everything that is stored.
    fn hash(&self) -> impl Future<Output = Result<HashResponse, Error>> + Send;

    /// The state as a file of etcd with its checksum, in pieces.
    fn snapshot(&self) -> impl Stream<Item = Result<SnapshotResponse, Error>> + Send + use<Self>;

    /// Transfers leadership.
    fn move_leader(
        &self,
        target: MemberId,
    ) -> impl Future<Output = Result<MoveLeaderResponse, Error>> + Send;

    /// Returns the room of deleted rows to the disk.
    fn defragment(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Checks, begins or cancels a downgrade of the cluster.
    fn downgrade(
        &self,
        request: DowngradeRequest,
    ) -> impl Future<Output = Result<DowngradeResponse, Error>> + Send;

    /// This member's status, without waiting. `errors` may be empty: the edge fills it in.
    fn status(&self) -> StatusResponse;

    /// Whether this member serves no client, since its state differs from the majority's. A member
    /// without others need not implement it.
    fn is_fenced(&self) -> bool {
        false
    }

    /// The active alarms in the applied state, without waiting.
    fn alarms(&self) -> Vec<AlarmMember>;

    /// The members in the applied state, without waiting.
    fn members(&self) -> Vec<Member>;

    /// The leader, or `MemberId::NONE`. Called for every request that requires a leader.
    fn leader(&self) -> MemberId;

    /// The time after which a follower without a leader starts an election.
    fn election_timeout(&self) -> Duration;

    /// A request with one answer that takes at least this time is logged as slow.
    fn slow_request(&self) -> Duration;

    /// Whether this member is a learner. Called for almost every request, so it must be fast.
    fn is_learner(&self) -> bool;

    /// The cluster id.
    fn cluster_id(&self) -> ClusterId;

    /// The versions of this member.
    fn versions(&self) -> Versions;

    /// The largest proposal, in bytes.
    fn max_request_bytes(&self) -> usize;

    /// The Raft state, without waiting.
    fn raft_status(&self) -> RaftStatus;

    /// Writes the member's metrics, without those of its gRPC calls.
    fn write_metrics(&self, out: &mut Exposition);

    /// The command line of the process; empty when embedded.
    fn command_line(&self) -> Vec<String>;

    /// Whether the port serves `/debug/pprof/`.
    fn serves_profiles(&self) -> bool {
        false
    }
}
