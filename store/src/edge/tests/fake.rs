//! A member that is a map: enough of etcd to talk to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::{ClusterId, MemberId};
use keelson_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::response_op::Response;
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::KeyValue;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;

use crate::Error;
use crate::edge::{Backend, Versions, check};

const MEMBER: u64 = 0xcafe;
const OPS_MAX: usize = 128;
pub(super) const REQUEST_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone)]
pub(super) struct Fake(Arc<Shared>);

struct Shared {
    address: SocketAddr,
    state: Mutex<State>,
    /// Puts wait while this is false.
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

#[derive(Default)]
pub(super) struct State {
    kvs: BTreeMap<Bytes, KeyValue>,
    revision: i64,
    compacted: i64,
    pub(super) leaderless: bool,
    pub(super) learner: bool,
    pub(super) alarms: Vec<AlarmMember>,
}

impl Fake {
    pub(super) fn new(address: SocketAddr) -> Fake {
        let state = State {
            revision: 1,
            ..State::default()
        };
        Fake(Arc::new(Shared {
            address,
            state: Mutex::new(state),
            open: watch::Sender::new(true),
            waiting: watch::Sender::new(0),
        }))
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock());
    }

    /// Holds puts back, or lets them go.
    pub(super) fn hold(&self, held: bool) {
        self.0.open.send_replace(!held);
    }

    /// Returns once that many puts are held back.
    pub(super) async fn held(&self, count: usize) {
        let mut waiting = self.0.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting == count).await.unwrap();
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 0xbeef,
        member_id: MEMBER,
        revision,
        raft_term: 2,
    })
}

fn in_range(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => key <= candidate,
        _ => key <= candidate && candidate < range_end,
    }
}

impl State {
    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        if self.revision < request.revision {
            return Err(Error::FutureRev);
        }
        if 0 < request.revision && request.revision < self.compacted {
            return Err(Error::Compacted);
        }
        let within = |kv: &&KeyValue| in_range(&request.key, &request.range_end, &kv.key);
        let all: Vec<&KeyValue> = self.kvs.values().filter(within).collect();
        let limit = match usize::try_from(request.limit) {
            Ok(limit) if 0 < limit => limit,
            _ => usize::MAX,
        };
        let shown = if request.count_only { 0 } else { limit };
        let show = |kv: &KeyValue| match request.keys_only {
            true => KeyValue {
                value: Bytes::new(),
                ..kv.clone()
            },
            false => kv.clone(),
        };
        Ok(RangeResponse {
            header: header(self.revision),
            kvs: all.iter().take(shown).map(|kv| show(kv)).collect(),
            more: shown != 0 && limit < all.len(),
            count: all.len() as i64,
        })
    }

    fn put(&mut self, request: &PutRequest, revision: i64) -> PutResponse {
        let before = self.kvs.get(&request.key).cloned();
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        self.kvs.insert(request.key.clone(), kv);
        self.revision = revision;
        PutResponse {
            header: header(revision),
            prev_kv: before.filter(|_| request.prev_kv),
        }
    }

    fn delete(&mut self, request: &DeleteRangeRequest, revision: i64) -> DeleteRangeResponse {
        let within = |key: &Bytes| in_range(&request.key, &request.range_end, key);
        let keys: Vec<Bytes> = self.kvs.keys().filter(|key| within(key)).cloned().collect();
        let gone: Vec<KeyValue> = keys.iter().filter_map(|key| self.kvs.remove(key)).collect();
        if !gone.is_empty() {
            self.revision = revision;
        }
        DeleteRangeResponse {
            header: header(self.revision),
            deleted: gone.len() as i64,
            prev_kvs: if request.prev_kv { gone } else { vec![] },
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.kvs.get(&compare.key).cloned().unwrap_or_default();
        let order = match &compare.target_union {
            Some(TargetUnion::Version(wanted)) => kv.version.cmp(wanted),
            Some(TargetUnion::CreateRevision(wanted)) => kv.create_revision.cmp(wanted),
            Some(TargetUnion::ModRevision(wanted)) => kv.mod_revision.cmp(wanted),
            Some(TargetUnion::Value(wanted)) => kv.value.cmp(wanted),
            Some(TargetUnion::Lease(wanted)) => kv.lease.cmp(wanted),
            None => kv.version.cmp(&0),
        };
        match compare.result() {
            CompareResult::Equal => order.is_eq(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
        }
    }

    fn txn(&mut self, request: &TxnRequest, revision: i64) -> Result<TxnResponse, Error> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded {
            &request.success
        } else {
            &request.failure
        };
        let mut responses = Vec::new();
        for op in branch {
            let response = match op.request.as_ref().expect("checked") {
                Request::RequestRange(r) => Response::ResponseRange(self.range(r)?),
                Request::RequestPut(r) => Response::ResponsePut(self.put(r, revision)),
                Request::RequestDeleteRange(r) => {
                    Response::ResponseDeleteRange(self.delete(r, revision))
                }
                Request::RequestTxn(r) => Response::ResponseTxn(self.txn(r, revision)?),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        Ok(TxnResponse {
            header: header(self.revision),
            succeeded,
            responses,
        })
    }
}

fn small_enough(request: &impl Message) -> Result<(), Error> {
    if REQUEST_BYTES_MAX < request.encoded_len() {
        return Err(Error::RequestTooLarge);
    }
    Ok(())
}

impl Backend for Fake {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        check::range(&request)?;
        let state = self.0.state.lock();
        if state.leaderless && !request.serializable {
            return Err(Error::Timeout);
        }
        state.range(&request)
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        check::put(&request)?;
        small_enough(&request)?;
        let mut open = self.0.open.subscribe();
        self.0.waiting.send_modify(|waiting| *waiting += 1);
        open.wait_for(|open| *open).await.expect("the fake lives");
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
        let mut state = self.0.state.lock();
        let revision = state.revision + 1;
        Ok(state.put(&request, revision))
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        check::delete_range(&request)?;
        let mut state = self.0.state.lock();
        let revision = state.revision + 1;
        Ok(state.delete(&request, revision))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        check::txn(&request, OPS_MAX)?;
        small_enough(&request)?;
        let mut state = self.0.state.lock();
        let revision = state.revision + 1;
        state.txn(&request, revision)
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        let mut state = self.0.state.lock();
        if request.revision <= state.compacted {
            return Err(Error::Compacted);
        }
        if state.revision < request.revision {
            return Err(Error::FutureRev);
        }
        state.compacted = request.revision;
        Ok(CompactionResponse {
            header: header(state.revision),
        })
    }

    async fn alarm(&self, _request: AlarmRequest) -> Result<AlarmResponse, Error> {
        let state = self.0.state.lock();
        Ok(AlarmResponse {
            header: header(state.revision),
            alarms: state.alarms.clone(),
        })
    }

    async fn member_list(&self, _linearizable: bool) -> Result<MemberListResponse, Error> {
        Ok(MemberListResponse {
            header: header(0),
            members: self.members(),
        })
    }

    async fn member_add(&self, _request: MemberAddRequest) -> Result<MemberAddResponse, Error> {
        Err(Error::NotEnoughStartedMembers)
    }

    async fn member_remove(&self, _member: MemberId) -> Result<MemberRemoveResponse, Error> {
        Err(Error::MemberNotFound)
    }

    async fn member_update(
        &self,
        _request: MemberUpdateRequest,
    ) -> Result<MemberUpdateResponse, Error> {
        Err(Error::MemberBadUrls)
    }

    async fn member_promote(&self, _member: MemberId) -> Result<MemberPromoteResponse, Error> {
        Err(Error::MemberNotLearner)
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        Ok(HashKvResponse {
            header: header(1),
            hash: 7,
            compact_revision: 0,
            hash_revision: revision,
        })
    }

    async fn move_leader(&self, _target: MemberId) -> Result<MoveLeaderResponse, Error> {
        Err(Error::BadLeaderTransferee)
    }

    fn status(&self) -> StatusResponse {
        let revision = self.0.state.lock().revision;
        StatusResponse {
            header: header(revision),
            version: self.versions().server,
            db_size: 20480,
            db_size_in_use: 16384,
            leader: self.leader().0,
            raft_index: 11,
            raft_applied_index: 11,
            raft_term: 2,
            is_learner: self.is_learner(),
            ..StatusResponse::default()
        }
    }

    fn alarms(&self) -> Vec<AlarmMember> {
        self.0.state.lock().alarms.clone()
    }

    fn members(&self) -> Vec<Member> {
        vec![Member {
            id: MEMBER,
            name: "m1".to_owned(),
            peer_ur_ls: vec!["http://127.0.0.1:2380".to_owned()],
            client_ur_ls: vec![format!("http://{}", self.0.address)],
            is_learner: self.is_learner(),
        }]
    }

    fn leader(&self) -> MemberId {
        match self.0.state.lock().leaderless {
            true => MemberId::NONE,
            false => MemberId(MEMBER),
        }
    }

    fn is_learner(&self) -> bool {
        self.0.state.lock().learner
    }

    fn cluster_id(&self) -> ClusterId {
        ClusterId(0xbeef)
    }

    fn versions(&self) -> Versions {
        Versions {
            server: "3.7.1".to_owned(),
            cluster: Some("3.7.0".to_owned()),
            storage: None,
        }
    }

    fn max_request_bytes(&self) -> usize {
        REQUEST_BYTES_MAX
    }
}
