//! What the edge needs of a member: the methods of `Store`, as a trait, so that the edge is tested
//! without one.
//!
//! Requests are validated behind this trait (`keelson_core::state::check` has the rules), so that
//! programs that embed a `Store` get the same errors as clients on the wire.

use std::future::Future;

use keelson_core::{ClusterId, MemberId};
use keelson_proto::etcdserverpb::*;
use tokio_stream::Stream;

use crate::Error;

/// The versions a member speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// What this member runs, "3.7.1".
    pub server: String,
    /// What the whole cluster can speak, "3.7.0"; `None` until the members have agreed.
    pub cluster: Option<String>,
    /// What the stored data needs, "3.7.0"; `None` until the cluster version is there.
    pub storage: Option<String>,
}

/// Where a member's Raft is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// The member.
    pub id: MemberId,
    /// The leader, `MemberId::NONE` if unknown.
    pub leader: MemberId,
    /// etcd's name of its role: "StateLeader".
    pub role: &'static str,
    /// The current term.
    pub term: u64,
    /// The index of the last committed entry.
    pub committed: u64,
    /// The index of the last applied entry.
    pub applied: u64,
}

/// A member, as its edges see it. Responses come with full headers.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Reads; linearizable unless the request says serializable.
    fn range(
        &self,
        request: RangeRequest,
    ) -> impl Future<Output = Result<RangeResponse, Error>> + Send;

    /// The same in pieces of about `max_request_bytes`, all at one revision. Only the last piece
    /// has a header, a count and `more`.
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

    /// Compares, then reads and writes as one.
    fn txn(&self, request: TxnRequest) -> impl Future<Output = Result<TxnResponse, Error>> + Send;

    /// Forgets old revisions.
    fn compact(
        &self,
        request: CompactionRequest,
    ) -> impl Future<Output = Result<CompactionResponse, Error>> + Send;

    /// Lists, raises or clears alarms.
    fn alarm(
        &self,
        request: AlarmRequest,
    ) -> impl Future<Output = Result<AlarmResponse, Error>> + Send;

    /// The members, by id.
    fn member_list(
        &self,
        linearizable: bool,
    ) -> impl Future<Output = Result<MemberListResponse, Error>> + Send;

    /// Adds a member or a learner.
    fn member_add(
        &self,
        request: MemberAddRequest,
    ) -> impl Future<Output = Result<MemberAddResponse, Error>> + Send;

    /// Removes a member, for ever.
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

    /// The hash of what is stored at a revision; 0 is the latest.
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<HashKvResponse, Error>> + Send;

    /// Hands leadership over.
    fn move_leader(
        &self,
        target: MemberId,
    ) -> impl Future<Output = Result<MoveLeaderResponse, Error>> + Send;

    /// This member's state, at once. `errors` may stay empty: the edge fills it in.
    fn status(&self) -> StatusResponse;

    /// The alarms that are up, at once, from what this member has applied.
    fn alarms(&self) -> Vec<AlarmMember>;

    /// The members that this member knows of, at once.
    fn members(&self) -> Vec<Member>;

    /// The leader, or `MemberId::NONE`. Asked for every request that requires one.
    fn leader(&self) -> MemberId;

    /// Whether this member is a learner. Asked for almost every request: an atomic, at most a lock.
    fn is_learner(&self) -> bool;

    /// Which cluster this is.
    fn cluster_id(&self) -> ClusterId;

    /// Which versions it speaks.
    fn versions(&self) -> Versions;

    /// The largest proposal, in bytes.
    fn max_request_bytes(&self) -> usize;

    /// Where its Raft is, at once.
    fn raft_status(&self) -> RaftStatus;

    /// The words that the process was started with; empty in another program.
    fn command_line(&self) -> Vec<String>;
}
