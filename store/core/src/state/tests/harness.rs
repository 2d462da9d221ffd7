//! A state machine with an engine in memory, and an applier around it.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{Command, ConfState, MemberChange};
use keelson_proto::mvccpb::KeyValue;
use prost::Message;

use crate::engine::{Engine, MemoryEngine};
use crate::state::*;
use crate::{Committed, ConfOutcome, Entry, EntryKind, MemberId, Term, proposal};

pub(super) struct Machine {
    pub(super) engine: Arc<MemoryEngine>,
    pub(super) state: StateMachine,
    /// Every entry ever applied, for replay.
    pub(super) log: Vec<Committed>,
}

pub(super) const OURS: ProposalId = ProposalId {
    member: MemberId(1),
    incarnation: 1,
    counter: 1,
};

pub(super) fn conf_state() -> ConfState {
    ConfState {
        voters: vec![1, 2, 3],
        ..ConfState::default()
    }
}

pub(super) fn member(id: u64) -> Member {
    Member {
        id,
        peer_ur_ls: vec![format!("http://{id}:2380")],
        ..Member::default()
    }
}

/// What consensus makes of an accepted change.
fn follow(conf: &mut ConfState, change: &MemberChange) {
    use keelson_proto::internal::member_change::Op;
    match change.op.as_ref().expect("a change") {
        Op::Add(member) if member.is_learner => conf.learners.push(member.id),
        Op::Add(member) => conf.voters.push(member.id),
        Op::Update(_) => {}
        Op::Remove(id) | Op::Promote(id) => {
            conf.voters.retain(|voter| voter != id);
            conf.learners.retain(|learner| learner != id);
            if matches!(change.op, Some(Op::Promote(_))) {
                conf.voters.push(*id);
            }
        }
    }
}

impl Machine {
    pub(super) fn new() -> Machine {
        let engine = Arc::new(MemoryEngine::new());
        let genesis = Genesis {
            cluster_id: ClusterId(77),
            members: vec![member(1), member(2), member(3)],
            mark: AppliedMark {
                conf_state: Some(conf_state()),
                ..AppliedMark::default()
            },
        };
        let state = StateMachine::create(engine.clone(), genesis, Limits::default())
            .expect("an empty engine");
        Machine {
            engine,
            state,
            log: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, op: Op) -> Result<Response, Error> {
        let command = Command { op: Some(op) }.encode_to_vec();
        let entry = self.entry(EntryKind::Command, proposal::encode(OURS, &command));
        self.commit(Committed { entry, conf: None })
    }

    pub(super) fn change(
        &mut self,
        change: MemberChange,
        accepted: bool,
    ) -> Result<Response, Error> {
        let entry = self.entry(EntryKind::Membership, Bytes::new());
        let mut conf_state = self.state.applied().conf_state.expect("a membership");
        if accepted {
            follow(&mut conf_state, &change);
        }
        let conf = Some(ConfOutcome {
            id: OURS,
            change: Some(change),
            accepted,
            conf_state,
        });
        self.commit(Committed { entry, conf })
    }

    fn entry(&self, kind: EntryKind, data: Bytes) -> Entry {
        Entry {
            index: crate::Index(self.state.applied().index + 1),
            term: Term(1),
            kind,
            data,
            context: Bytes::new(),
        }
    }

    pub(super) fn commit(&mut self, committed: Committed) -> Result<Response, Error> {
        self.log.push(committed.clone());
        let applied = self.state.apply(&committed, true).expect("engine works");
        assert_eq!(applied.id, Some(OURS));
        applied.response
    }

    pub(super) fn put(&mut self, request: PutRequest) -> Result<PutResponse, Error> {
        match self.apply(Op::Put(request))? {
            Response::Put(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn delete(&mut self, request: DeleteRangeRequest) -> DeleteRangeResponse {
        match self.apply(Op::DeleteRange(request)).expect("accepted") {
            Response::DeleteRange(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Error> {
        match self.apply(Op::Txn(request))? {
            Response::Txn(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        let request = super::requests::compaction(revision);
        self.apply(Op::Compaction(request)).map(|_| ())
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.state.view().range(request)
    }

    /// Keys and values as text, for assertions.
    pub(super) fn show(&self, request: &RangeRequest) -> Vec<String> {
        shown(&self.range(request).expect("readable").kvs)
    }

    pub(super) fn flush(&mut self) {
        if let Some(flush) = self.state.rotate() {
            self.engine.write(&flush.batch).expect("memory");
            self.state.flushed(flush);
        }
    }

    pub(super) fn sweep(&mut self) {
        while self.state.compact_step() {}
    }

    /// Crashes without a flush, reopens the engine, and replays the log from its applied index.
    pub(super) fn restart(&mut self) {
        let engine = self.engine.clone();
        let state = StateMachine::open(engine, Limits::default()).expect("valid");
        self.state = state.expect("not empty");
        assert_eq!(self.state.applied().index, self.state.durable().0);
        for committed in &self.log {
            let behind = committed.entry.index <= self.state.durable();
            let applied = self.state.apply(committed, false).expect("engine works");
            assert_eq!(applied.id.is_none(), behind);
        }
    }
}

pub(super) fn shown(kvs: &[KeyValue]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let show = |kv: &KeyValue| format!("{}={}", text(&kv.key), text(&kv.value));
    kvs.iter().map(show).collect()
}
