//! Implements the edges' [`Backend`] trait for [`Store`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use keelson_core::node::Role;
use keelson_core::state::Response;
use keelson_core::state::auth::{Access, Auth, Caller};
use keelson_core::watch::WatchStream;
use keelson_core::{ClusterId, Index, MemberId};
use keelson_port::metrics::Exposition;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::AuthChange;
use keelson_proto::keelsonpb::UsageResponse;

use crate::edge::{
    Backend, JwtKeys, LateAnswer, NoAnswer, RaftStatus, SeenTokens, TokenSignature, Versions,
};
use crate::submit::AtTimeout;
use crate::{Error, Store, peer, version};

impl Backend for Store {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        Store::range(self, request).await
    }

    fn range_stream(
        &self,
        request: RangeRequest,
    ) -> impl Stream<Item = Result<RangeResponse, Error>> + Send + use<> {
        Store::range_stream(self, request)
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        Store::put(self, request).await
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        Store::delete_range(self, request).await
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        Store::txn(self, request).await
    }

    async fn txn_with_late_answer(&self, request: TxnRequest) -> Result<TxnResponse, NoAnswer> {
        let failed = match self.txn_or_wait(request, AtTimeout::Wait).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let late = failed.late.map(|late| -> LateAnswer {
            Box::pin(async move {
                match late.response().await? {
                    Response::Txn(response) => Some(response),
                    _ => None,
                }
            })
        });
        Err(NoAnswer {
            error: failed.error,
            late,
        })
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        Store::compact(self, request).await
    }

    fn watch(&self, wake: impl Fn() + Send + Sync + 'static) -> WatchStream {
        self.watch_stream(wake)
    }

    fn watch_progress_interval(&self) -> Duration {
        Duration::from_millis(self.config().watch_progress_interval_ms)
    }

    fn header(&self) -> ResponseHeader {
        Store::header(self).unwrap_or_default()
    }

    async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Error> {
        Store::alarm(self, request).await
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Error> {
        Store::lease_grant(self, request).await
    }

    async fn lease_revoke(
        &self,
        request: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Error> {
        Store::lease_revoke(self, request).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        Store::lease_keep_alive(self, id).await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        Store::lease_time_to_live(self, request).await
    }

    fn leases(&self) -> Result<LeaseLeasesResponse, Error> {
        Store::leases(self)
    }

    fn acting_as(&self, caller: Caller) -> Store {
        Store::acting_as(self, caller)
    }

    fn authorize(&self, access: Access<'_>) -> Result<(), Error> {
        Store::authorize(self, access)
    }

    async fn authorize_now(&self, access: Access<'_>) -> Result<(), Error> {
        Store::authorize_now(self, access).await
    }

    fn auth(&self) -> Arc<Auth> {
        self.view().auth()
    }

    fn auth_enabled(&self) -> bool {
        self.view().auth_enabled()
    }

    fn has_certificate_users(&self) -> bool {
        self.config().client_cert_auth
    }

    fn token_ttl(&self) -> Duration {
        Duration::from_secs(match self.config().auth_token_ttl_s {
            // As in etcd.
            0 => 300,
            ttl => ttl,
        })
    }

    fn jwt(&self) -> Option<(Arc<JwtKeys>, Duration)> {
        let tokens = self.config().jwt.as_ref()?;
        Some((tokens.keys(), tokens.ttl()))
    }

    fn seen_tokens(&self) -> Arc<SeenTokens> {
        Arc::clone(&self.inner.seen_tokens)
    }

    async fn token_used_elsewhere(&self, token: TokenSignature) -> Option<Duration> {
        let (peers, tls) = (self.inner.shared.peers(), self.inner.links.tls());
        let queries = peers
            .iter()
            // A dead one would take the whole time of the query.
            .filter(|peer| self.inner.links.is_up(peer.id))
            .map(|peer| peer::request_token_use(&peer.urls, tls, &token));
        let used = futures_util::future::join_all(queries).await;
        used.into_iter().flatten().max()
    }

    fn bcrypt_cost(&self) -> u32 {
        self.config().bcrypt_cost
    }

    async fn auth_change(&self, change: AuthChange) -> Result<ResponseHeader, Error> {
        Store::auth_change(self, change).await
    }

    async fn read_index(&self) -> Result<(), Error> {
        Store::read_index(self).await
    }

    async fn applied(&self, index: u64) {
        let mut applied = self.inner.shared.watch_applied();
        let _ = applied.wait_for(|applied| Index(index) <= *applied).await;
    }

    async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        Store::member_list(self, linearizable).await
    }

    async fn member_add(&self, request: MemberAddRequest) -> Result<MemberAddResponse, Error> {
        Store::member_add(self, request).await
    }

    async fn member_remove(&self, member: MemberId) -> Result<MemberRemoveResponse, Error> {
        Store::member_remove(self, member).await
    }

    async fn member_update(
        &self,
        request: MemberUpdateRequest,
    ) -> Result<MemberUpdateResponse, Error> {
        Store::member_update(self, request).await
    }

    async fn member_promote(&self, member: MemberId) -> Result<MemberPromoteResponse, Error> {
        Store::member_promote(self, member).await
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        Store::hash_kv(self, revision).await
    }

    async fn usage(&self, sizes: bool) -> Result<UsageResponse, Error> {
        Store::usage(self, sizes).await
    }

    async fn hash(&self) -> Result<HashResponse, Error> {
        Store::hash(self).await
    }

    fn snapshot(&self) -> impl Stream<Item = Result<SnapshotResponse, Error>> + Send + use<> {
        Store::snapshot(self)
    }

    async fn move_leader(&self, target: MemberId) -> Result<MoveLeaderResponse, Error> {
        Store::move_leader(self, target).await
    }

    async fn defragment(&self) -> Result<(), Error> {
        Store::defragment(self).await
    }

    async fn downgrade(&self, request: DowngradeRequest) -> Result<DowngradeResponse, Error> {
        Store::downgrade(self, request).await
    }

    fn status(&self) -> StatusResponse {
        Store::status(self)
    }

    fn is_fenced(&self) -> bool {
        self.view().is_fenced()
    }

    fn alarms(&self) -> Vec<AlarmMember> {
        self.view().alarms()
    }

    fn members(&self) -> Vec<Member> {
        self.view().members()
    }

    fn leader(&self) -> MemberId {
        self.inner.shared.soft_state().leader
    }

    fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.config().election_ms)
    }

    fn slow_request(&self) -> Duration {
        Duration::from_millis(self.config().warning_unary_request_ms)
    }

    fn is_learner(&self) -> bool {
        self.inner.shared.is_learner()
    }

    fn cluster_id(&self) -> ClusterId {
        Store::cluster_id(self)
    }

    fn versions(&self) -> Versions {
        Versions {
            server: version::ETCD.to_owned(),
            cluster: self.view().cluster_version(),
            storage: self.storage_version(),
        }
    }

    fn max_request_bytes(&self) -> usize {
        self.config().max_request_bytes
    }

    fn raft_status(&self) -> RaftStatus {
        let node = self.inner.shared.node();
        RaftStatus {
            id: self.member_id(),
            leader: node.soft_state.leader,
            role: match node.soft_state.role {
                Role::Follower => "StateFollower",
                Role::Candidate => "StateCandidate",
                Role::Leader => "StateLeader",
            },
            term: self.inner.shared.shown_term(),
            committed: node.committed.0,
            applied: self.view().applied_index().0,
        }
    }

    fn write_metrics(&self, out: &mut Exposition) {
        self.metrics_text(out);
    }

    fn command_line(&self) -> Vec<String> {
        self.config().command_line.clone()
    }

    fn serves_profiles(&self) -> bool {
        self.config().enable_pprof
    }
}
