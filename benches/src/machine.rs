//! A state machine to measure: an engine, an applier, and the entries it is fed.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::engine::{Engine, MemoryEngine};
use keelson_core::state::{Genesis, HASH_SCHEME, Limits, StateMachine};
use keelson_core::{
    ClusterId, Committed, Entry, EntryKind, Index, MemberId, ProposalId, Term, proposal,
};
use keelson_proto::etcdserverpb::{Member, PutRequest};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::hash_check::Step;
use keelson_proto::internal::{AppliedMark, Command, ConfState, HashCheck};
use keelson_store::internals::engine::{self, StorageEngine};
use prost::Message;

/// Records that make a flush due, as in a member.
const FLUSH_RECORDS: u64 = 10_000;

const MAP_BYTES: u64 = 8 << 30;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;

/// The state machine and what keeps it going.
pub struct Machine {
    /// The state machine.
    pub state: StateMachine,
    engine: Arc<dyn Engine>,
    applied: u64,
}

impl Machine {
    /// One with its rows in memory.
    pub fn in_memory() -> Machine {
        Machine::new(Arc::new(MemoryEngine::new()))
    }

    /// One with its rows in LMDB in that directory.
    pub fn on_disk(dir: &Path) -> Machine {
        let engine = engine::open(StorageEngine::Lmdb, dir, MAP_BYTES);
        Machine::new(engine.expect("an empty directory is no obstacle"))
    }

    fn new(engine: Arc<dyn Engine>) -> Machine {
        let genesis = Genesis {
            cluster_id: ClusterId(1),
            members: vec![Member {
                id: 1,
                ..Member::default()
            }],
            mark: AppliedMark {
                conf_state: Some(ConfState {
                    voters: vec![1],
                    ..ConfState::default()
                }),
                ..AppliedMark::default()
            },
        };
        let limits = Limits {
            quota_bytes: u64::MAX,
        };
        let state = StateMachine::create(Arc::clone(&engine), genesis, limits);
        Machine {
            state: state.expect("the engine is empty"),
            engine,
            applied: 0,
        }
    }

    /// Applies one command, and flushes when it is due.
    pub fn apply(&mut self, command: &Bytes) {
        self.applied += 1;
        let entry = Entry {
            index: Index(self.applied),
            term: Term(1),
            kind: EntryKind::Command,
            context: Bytes::new(),
            data: command.clone(),
        };
        let committed = Committed { entry, conf: None };
        let applied = self
            .state
            .apply(&committed, true)
            .expect("the engine works");
        applied.response.expect("the command is good");
        if self.state.unflushed().records >= FLUSH_RECORDS as _ {
            self.flush();
        }
    }

    /// Begins the running hash, to which every later command adds what it changes.
    pub fn with_hash(mut self) -> Machine {
        let begin = HashCheck {
            step: Step::Begin.into(),
            scheme: HASH_SCHEME,
            ..HashCheck::default()
        };
        let command = Command {
            op: Some(Op::HashCheck(begin)),
        };
        let command = command.encode_to_vec();
        self.apply(&proposal::encode(ProposalId::default(), &command));
        self
    }

    /// Writes what was applied to the engine, as the flusher does beside the applier.
    pub fn flush(&mut self) {
        if let Some(flush) = self.state.rotate() {
            self.engine.write(&flush.batch).expect("the engine works");
            self.state.flushed(flush);
        }
    }
}

/// The entry of a put: what a member's log holds.
pub fn put(key: u64) -> Bytes {
    let request = PutRequest {
        key: Bytes::copy_from_slice(&key.to_be_bytes()),
        value: Bytes::from(vec![b'v'; VALUE_BYTES]),
        ..Default::default()
    };
    let command = Command {
        op: Some(Op::Put(request)),
    };
    let id = ProposalId {
        member: MemberId(1),
        incarnation: 1,
        counter: key,
    };
    proposal::encode(id, &command.encode_to_vec())
}
