//! The decisions of a start, for each state of the log and the engine.

use keelson_proto::internal::{AppliedMark, ConfState};

use super::*;
use crate::engine::MemoryEngine;
use crate::{EntryKind, Term};

const CLUSTER: ClusterId = ClusterId(7);

fn mark(index: u64) -> LastIncluded {
    LastIncluded {
        index: Index(index),
        term: Term(1),
    }
}

/// A cluster of one, founded at entry 1.
fn genesis() -> Genesis {
    Genesis {
        cluster_id: CLUSTER,
        members: vec![Member {
            id: 1,
            ..Member::default()
        }],
        mark: AppliedMark {
            index: 1,
            term: 1,
            conf_state: Some(ConfState {
                voters: vec![1],
                ..ConfState::default()
            }),
            hash: None,
        },
    }
}

/// A log that begins after entry `begins` and has `entries` entries.
fn log(begins: u64, entries: u64) -> RecoveredLog {
    let entry = |index| Entry {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        data: Default::default(),
        context: Default::default(),
    };
    RecoveredLog {
        cluster: CLUSTER,
        mark: mark(begins),
        entries: (begins + 1..=begins + entries).map(entry).collect(),
        ..RecoveredLog::default()
    }
}

fn recover(
    log: RecoveredLog,
    genesis: Option<Genesis>,
    engine: &Arc<MemoryEngine>,
    began: Option<LastIncluded>,
) -> Result<Recovered, RecoveryError> {
    let (flags, limits) = (RecoveryFlags::default(), Limits::default());
    let recovery = Recovery::begin(log, genesis, flags, limits)?;
    let opened = recovery.open(Arc::clone(engine) as Arc<_>)?;
    opened.reconcile(NodeConfig::new(MemberId(1), 1), began)
}

fn founded() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    let state = StateMachine::create(engine.clone(), genesis(), Limits::default());
    state.expect("an empty engine");
    engine
}

#[test]
fn a_founder_is_new_and_its_log_begins_at_the_founding() {
    let new = recover(
        RecoveredLog {
            cluster: CLUSTER,
            ..Default::default()
        },
        Some(genesis()),
        &Arc::default(),
        None,
    );
    let new = new.expect("it founds");
    assert_eq!((new.is_new, new.mark), (true, Some(mark(1))));
    let again = recover(log(1, 3), None, &founded(), Some(mark(1))).expect("its own data");
    assert_eq!((again.is_new, again.mark), (false, None));
}

#[test]
fn a_state_that_is_gone_is_made_anew_only_from_a_log_that_reaches_back() {
    let made = recover(log(1, 3), Some(genesis()), &Arc::default(), None);
    assert!(!made.expect("the log has all of it").is_new);
    for genesis in [Some(genesis()), None] {
        let refused = recover(log(5, 3), genesis, &Arc::default(), None);
        assert!(matches!(refused, Err(RecoveryError::StateMissing)));
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let other = RecoveredLog {
        cluster: ClusterId(8),
        ..log(1, 3)
    };
    let refused = recover(other, None, &founded(), Some(mark(1)));
    assert!(matches!(refused, Err(RecoveryError::OtherCluster)));
    let refused = recover(log(5, 3), None, &founded(), Some(mark(1)));
    assert!(matches!(
        refused,
        Err(RecoveryError::Node(NodeError::LogBeginsTooLate { .. }))
    ));
    // The engine has applied an entry that the log has not, and no snapshot brought it.
    let refused = recover(log(0, 0), None, &founded(), Some(mark(0)));
    assert!(matches!(
        refused,
        Err(RecoveryError::Node(NodeError::LogBehindEngine { .. }))
    ));
}

#[test]
fn only_a_member_without_data_may_be_new_or_lost() {
    assert_eq!(StartKind::of(true, true), StartKind::Restart);
    assert_eq!(StartKind::of(true, false), StartKind::LogWithoutState);
    assert_eq!(StartKind::of(false, true), StartKind::StateWithoutLog);
    assert_eq!(StartKind::of(false, false), StartKind::Fresh);
}
