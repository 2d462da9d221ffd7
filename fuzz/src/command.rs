//! Any bytes as a committed entry: the state machine must not panic, and two members that apply the
//! same must stay equal, however differently they flush and compact. Both stop before the same
//! entry if they do not understand it, with the applied index before it.

use std::sync::Arc;

use bytes::Bytes;
use keelson_core::engine::{Engine, MemoryEngine};
use keelson_core::state::{Genesis, Limits, StateError, StateMachine};
use keelson_core::{Committed, Entry, EntryKind, Index, ProposalId, Term, proposal};

/// Commands in one input, each behind a length byte.
const COMMANDS_MAX: usize = 32;

struct Member {
    engine: Arc<MemoryEngine>,
    state: StateMachine,
}

impl Member {
    fn new() -> Member {
        let engine = Arc::new(MemoryEngine::new());
        let door: Arc<dyn Engine> = engine.clone();
        let state = StateMachine::create(door, Genesis::default(), Limits::default());
        Member {
            engine,
            state: state.expect("an empty engine"),
        }
    }

    fn flush(&mut self) {
        if let Some(flush) = self.state.rotate() {
            self.engine
                .write(&flush.batch)
                .expect("memory does not fail");
            self.state.flushed(flush);
        }
    }
}

/// The target.
pub fn run(bytes: &[u8]) {
    let (mut lazy, mut eager) = (Member::new(), Member::new());
    for (number, command) in commands(bytes).enumerate() {
        let committed = committed(number as u64 + 1, command);
        let one = lazy.state.apply(&committed, true);
        let other = eager.state.apply(&committed, number % 2 == 0);
        if let Err(StateError::NotUnderstood { index }) = &one {
            assert_eq!(*index, number as u64 + 1);
            assert!(matches!(other, Err(StateError::NotUnderstood { index: at }) if at == *index));
            assert_eq!(lazy.state.applied().index, number as u64);
            assert_eq!(eager.state.applied().index, number as u64);
            break;
        }
        let one = one.expect("memory does not fail");
        let other = other.expect("memory does not fail");
        assert_eq!(one.revision, other.revision, "two members disagree");
        eager.flush();
        while eager.state.compact_step() {}
    }
    let hash = |member: &Member| member.state.view().hash_kv(0).map(|hash| hash.hash);
    assert_eq!(
        hash(&lazy),
        hash(&eager),
        "two members hold different pairs"
    );
}

fn commands(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first()?;
        let (command, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        Some(command)
    })
    .take(COMMANDS_MAX)
}

fn committed(index: u64, command: &[u8]) -> Committed {
    let entry = Entry {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        data: proposal::encode(ProposalId::default(), command),
        context: Bytes::new(),
    };
    Committed { entry, conf: None }
}
