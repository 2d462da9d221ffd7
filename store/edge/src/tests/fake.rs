//! A member without a log: the real state machine; each proposal is committed at once.

#![expect(
    clippy::disallowed_types,
    reason = "a fake of the member, which has the state machine"
)]

mod apply;
mod condition;
mod header;
mod leases;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use keelson_core::engine::MemoryEngine;
use keelson_core::state::auth::{Access, Auth, Caller};
use keelson_core::state::{self, Genesis, Limits, ReadView, StateMachine, check};
use keelson_core::tree::{TreeError, watchers::WatchSpec};
use keelson_core::watch::{WatchHub, WatchStream};
use keelson_core::{ClusterId, MemberId};
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::{AuthChange, command::Op};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::Stream;

use self::apply::own_downgrade;
pub(crate) use self::condition::Condition;
use self::header::{full, hashed, hashed_kv, pieces, raft_status, versions, with_full_header};
use super::hub::{FakeHub, FakeWatch};
use crate::{Backend, Error, JwtKeys, NoAnswer, RaftStatus, TokenSignature, Versions};

const MEMBER: u64 = 0xcafe;
const CLUSTER: u64 = 0xbeef;
const TERM: u64 = 2;
const OPS_MAX: usize = 128;
pub(super) const REQUEST_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone)]
pub(crate) struct Fake(Arc<Shared>, Caller);

struct Shared {
    address: SocketAddr,
    state: Mutex<StateMachine>,
    view: ReadView,
    condition: Mutex<Condition>,
    /// Puts, transactions and renewals wait while this is false.
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
    /// Watchers of the v2 tree.
    hub: Arc<FakeHub>,
    /// Watchers of the v3 API.
    watches: Arc<WatchHub>,
}

impl Fake {
    pub(crate) fn new(address: SocketAddr) -> Fake {
        let engine = Arc::new(MemoryEngine::new());
        let state = StateMachine::create(engine, Genesis::default(), Limits::default()).unwrap();
        Fake(
            Arc::new(Shared {
                hub: Arc::default(),
                watches: WatchHub::new(state.view()),
                address,
                view: state.view(),
                state: Mutex::new(state),
                condition: Mutex::default(),
                open: watch::Sender::new(true),
                waiting: watch::Sender::new(0),
            }),
            Caller::Member,
        )
    }

    pub(crate) fn view(&self) -> &ReadView {
        &self.0.view
    }

    pub(crate) fn hub(&self) -> &Arc<FakeHub> {
        &self.0.hub
    }

    /// Watches the tree, which does not change meanwhile.
    pub(crate) fn watch_tree(&self, spec: WatchSpec) -> Result<FakeWatch, TreeError> {
        let _unchanged = self.0.state.lock();
        self.0.hub.watch(spec, &self.0.view)
    }

    /// Holds puts, transactions and renewals back, or releases them.
    pub(crate) fn hold(&self, held: bool) {
        self.0.open.send_replace(!held);
    }

    /// Returns once that many of these are held back.
    pub(crate) async fn held(&self, count: usize) {
        let mut waiting = self.0.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting == count).await.unwrap();
    }
}

macro_rules! propose {
    ($fake:expr, $kind:ident, $request:expr) => {
        match $fake.propose(Op::$kind($request))? {
            state::Response::$kind(mut response) => {
                response.header = full(response.header);
                Ok(response)
            }
            other => panic!("answered with {other:?}"),
        }
    };
}

impl Backend for Fake {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        check::range(&request)?;
        if self.0.condition.lock().leaderless && !request.serializable {
            return Err(Error::Timeout);
        }
        if self.condition().silent && !request.serializable {
            std::future::pending::<()>().await;
        }
        self.authorize(Access::Range(&request))?;
        let mut response = self.0.view.range(&request)?;
        response.header = full(response.header);
        Ok(response)
    }

    fn range_stream(
        &self,
        request: RangeRequest,
    ) -> impl Stream<Item = Result<RangeResponse, Error>> + Send + use<> {
        if let Err(error) = self.authorize(Access::Range(&request)) {
            return stream::iter([Err(error)]).right_stream();
        }
        match self.0.view.range_stream(&request, REQUEST_BYTES_MAX) {
            Ok(pieces) => stream::iter(pieces).map(with_full_header).left_stream(),
            Err(error) => stream::iter([Err(error.into())]).right_stream(),
        }
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        check::put(&request)?;
        self.opened().await;
        propose!(self, Put, request)
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        check::delete_range(&request)?;
        propose!(self, DeleteRange, request)
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        check::txn(&request, OPS_MAX)?;
        if self.condition().leaderless {
            return Err(Error::Timeout);
        }
        self.opened().await;
        propose!(self, Txn, request)
    }

    async fn txn_with_late_answer(&self, request: TxnRequest) -> Result<TxnResponse, NoAnswer> {
        self.txn_in_time_or_late(request).await
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        propose!(self, Compaction, request)
    }

    fn watch(&self, wake: impl Fn() + Send + Sync + 'static) -> WatchStream {
        self.0.watches.stream(Arc::new(self.1.clone()), wake)
    }

    fn watch_progress_interval(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn header(&self) -> ResponseHeader {
        full(None).unwrap_or_default()
    }

    async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Error> {
        propose!(self, Alarm, request)
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Error> {
        propose!(self, LeaseGrant, leases::with_id(request))
    }

    async fn lease_revoke(
        &self,
        request: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Error> {
        propose!(self, LeaseRevoke, request)
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        self.keep_alive(id).await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        Ok(self.time_to_live(&request))
    }

    fn leases(&self) -> Result<LeaseLeasesResponse, Error> {
        self.all_leases()
    }

    fn acting_as(&self, caller: Caller) -> Fake {
        Fake(Arc::clone(&self.0), caller)
    }

    fn authorize(&self, access: Access<'_>) -> Result<(), Error> {
        Ok(self.0.view.authorize(&self.1, access)?)
    }

    async fn authorize_now(&self, access: Access<'_>) -> Result<(), Error> {
        self.authorize(access)
    }

    fn auth(&self) -> Arc<Auth> {
        self.0.view.auth()
    }

    fn auth_enabled(&self) -> bool {
        self.0.view.auth_enabled()
    }

    fn has_certificate_users(&self) -> bool {
        true
    }

    fn token_ttl(&self) -> Duration {
        self.condition().ttl()
    }

    async fn token_used_elsewhere(&self, _: TokenSignature) -> Option<Duration> {
        self.condition().used_elsewhere
    }

    fn jwt(&self) -> Option<(Arc<JwtKeys>, Duration)> {
        self.condition().jwt.clone()
    }

    fn bcrypt_cost(&self) -> u32 {
        4
    }

    async fn auth_change(&self, change: AuthChange) -> Result<ResponseHeader, Error> {
        match self.propose(Op::Auth(change))? {
            state::Response::Auth(header) => Ok(full(Some(header)).unwrap_or_default()),
            other => panic!("answered with {other:?}"),
        }
    }

    async fn read_index(&self) -> Result<(), Error> {
        self.catch_up()
    }

    async fn applied(&self, index: u64) {
        if self.0.view.applied_index().0 < index {
            std::future::pending::<()>().await;
        }
    }

    async fn member_list(&self, _linearizable: bool) -> Result<MemberListResponse, Error> {
        Ok(MemberListResponse {
            header: full(None),
            members: self.members(),
        })
    }

    async fn member_add(&self, _request: MemberAddRequest) -> Result<MemberAddResponse, Error> {
        let outcome = self.condition().member_change.clone();
        match outcome {
            Some(outcome) => Ok(MemberAddResponse {
                header: full(None),
                member: Some(outcome?),
                members: self.members(),
            }),
            None => Err(Error::NotEnoughStartedMembers),
        }
    }

    async fn member_remove(&self, _member: MemberId) -> Result<MemberRemoveResponse, Error> {
        let outcome = self.condition().member_change.clone();
        match outcome {
            Some(outcome) => outcome.map(|_| MemberRemoveResponse::default()),
            None => Err(Error::State(state::Error::MemberNotFound)),
        }
    }

    async fn member_update(
        &self,
        _request: MemberUpdateRequest,
    ) -> Result<MemberUpdateResponse, Error> {
        let outcome = self.condition().member_change.clone();
        match outcome {
            Some(outcome) => outcome.map(|_| MemberUpdateResponse::default()),
            None => Err(Error::MemberBadUrls),
        }
    }

    async fn member_promote(&self, _member: MemberId) -> Result<MemberPromoteResponse, Error> {
        Err(Error::State(state::Error::MemberNotLearner))
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        Ok(hashed_kv(self.0.view.hash_kv(revision)?))
    }

    async fn usage(&self, _: bool) -> Result<keelson_proto::keelsonpb::UsageResponse, Error> {
        Ok(Default::default())
    }

    async fn hash(&self) -> Result<HashResponse, Error> {
        Ok(hashed())
    }

    fn snapshot(&self) -> impl Stream<Item = Result<SnapshotResponse, Error>> + Send + use<> {
        pieces()
    }

    async fn move_leader(&self, _target: MemberId) -> Result<MoveLeaderResponse, Error> {
        Err(Error::BadLeaderTransferee)
    }

    async fn defragment(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn downgrade(&self, request: DowngradeRequest) -> Result<DowngradeResponse, Error> {
        own_downgrade(request)
    }

    fn status(&self) -> StatusResponse {
        self.own_status()
    }

    fn alarms(&self) -> Vec<AlarmMember> {
        self.0.condition.lock().alarms.clone()
    }

    fn members(&self) -> Vec<Member> {
        self.own_members()
    }

    fn leader(&self) -> MemberId {
        match self.0.condition.lock().leaderless {
            true => MemberId::NONE,
            false => MemberId(MEMBER),
        }
    }

    fn election_timeout(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn slow_request(&self) -> Duration {
        Duration::from_millis(300)
    }

    fn is_learner(&self) -> bool {
        self.0.condition.lock().learner
    }

    fn cluster_id(&self) -> ClusterId {
        ClusterId(CLUSTER)
    }

    fn raft_status(&self) -> RaftStatus {
        raft_status(self.leader(), self.0.view.applied_index().0)
    }

    fn is_fenced(&self) -> bool {
        self.condition().fenced
    }

    fn write_metrics(&self, _: &mut keelson_port::metrics::Exposition) {}

    fn command_line(&self) -> Vec<String> {
        vec!["keelson".to_owned(), "--name".to_owned(), "a\"b".to_owned()]
    }

    fn versions(&self) -> Versions {
        versions()
    }

    fn max_request_bytes(&self) -> usize {
        REQUEST_BYTES_MAX
    }
}
