//! Power failures at each step of a snapshot installation: the data directory holds the old or
//! the new state, and the log fits it.

use std::path::Path;
use std::sync::Arc;

use keelson_core::node::{Node, NodeConfig, Restored};
use keelson_core::{ClusterId, Entry, EntryKind, HardState, Index, LastIncluded, MemberId, Term};
use keelson_proto::internal::{AppliedMark, ConfState};

use crate::disk::sim::SimDisk;
use crate::disk::{self, Disk, DiskFile};
use crate::engine::generation::{Fresh, Generations};
use crate::wal::{Identity, Wal, WalConfig};

const IDENTITY: Identity = Identity {
    cluster: ClusterId(1),
    member: MemberId(1),
};
/// A file in a generation's directory that stands for the engine and holds the applied mark.
const ENGINE: &str = "applied";

fn mark(index: u64, term: u64) -> LastIncluded {
    LastIncluded {
        index: Index(index),
        term: Term(term),
    }
}

struct Member {
    generations: Generations<SimDisk>,
    wal: Wal<SimDisk>,
    restored: Restored,
}

impl Member {
    /// Opens a member as `recover` does.
    fn open(disk: &SimDisk) -> Member {
        let disk = Arc::new(disk.clone());
        let config = WalConfig {
            segment_bytes: 4096,
            ..WalConfig::default()
        };
        let wal = Wal::create_or_open(Arc::clone(&disk), Path::new("/wal"), IDENTITY, config);
        let (wal, recovered) = wal.expect("no damage");
        let generations = Generations::open(Arc::clone(&disk), Path::new("/snap"));
        let generations = generations.expect("no damage");
        let engine = generations.current().map(|dir| dir.join(ENGINE));
        let applied = engine.and_then(|path| disk::read_file(&*disk, &path).expect("it is read"));
        let number = |at: usize| {
            let bytes = applied.as_ref().and_then(|bytes| bytes[at..].first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let restored = Restored {
            hard_state: recovered.hard_state,
            log_start: recovered.mark,
            entries: recovered.entries,
            applied: AppliedMark {
                index: number(0),
                term: number(8),
                conf_state: Some(ConfState {
                    voters: vec![1, 2],
                    ..ConfState::default()
                }),
                hash: None,
            },
            engine_began: generations.began(),
            ..Restored::default()
        };
        Member {
            generations,
            wal,
            restored,
        }
    }

    /// Creates a generation with that mark.
    fn receive(&mut self, disk: &SimDisk, applied: LastIncluded) -> Fresh {
        let fresh = self.generations.begin().expect("there is room");
        let file = disk.create(&fresh.dir.join(ENGINE)).expect("it is empty");
        let numbers = [applied.index.0, applied.term.0].map(u64::to_le_bytes);
        file.write_at(0, numbers.as_flattened())
            .expect("there is room");
        file.sync_data().expect("it is durable");
        fresh
    }

    /// Installs a generation as `Staged::install` does.
    fn install(&mut self, fresh: &Fresh, applied: LastIncluded) {
        let switched = self.generations.switch(fresh, applied);
        switched.expect("a disk without faults");
        let removed = self.generations.remove_others();
        removed.expect("a disk without faults");
    }

    fn append(&mut self, state: Option<HardState>, entries: &[Entry], mark: LastIncluded) {
        let appended = self.wal.append(state, entries, Some(mark));
        appended.expect("a disk without faults");
        self.wal.sync().expect("a disk without faults");
    }
}

#[test]
fn a_crash_at_any_step_of_an_installation_is_survived() {
    let disk = SimDisk::new();
    let mut member = Member::open(&disk);
    let fresh = member.receive(&disk, mark(1, 1));
    member.install(&fresh, mark(1, 1));
    let entry = |index| Entry {
        index: Index(index),
        term: Term(1),
        kind: EntryKind::Command,
        data: "command".into(),
        context: Default::default(),
    };
    let entries: Vec<Entry> = (2..6).map(entry).collect();
    member.append(None, &entries, mark(1, 1));
    disk.record();
    let fresh = member.receive(&disk, mark(9, 2));
    member.install(&fresh, mark(9, 2));
    let installed = disk.operations();
    let state = HardState {
        term: Term(2),
        vote: MemberId(2),
        commit: Index(9),
    };
    member.append(Some(state), &[], mark(9, 2));
    let noted = disk.operations();
    let mut states = [0; 3];
    for moment in disk.moments() {
        for subset in 0..1u64 << moment.disk.unsynced().min(10) {
            let disk = moment.disk.fork();
            disk.crash_keeping(subset);
            let mut member = Member::open(&disk);
            let restored = member.restored.clone();
            let (_, anew) = Node::new(NodeConfig::new(MemberId(1), 2), restored.clone())
                .unwrap_or_else(|error| panic!("after {}: {error}", moment.after));
            let is_old = restored.applied.index == 1;
            assert!(!is_old || moment.operations < installed, "{}", moment.after);
            assert!(
                anew.is_none() || moment.operations < noted,
                "{}",
                moment.after
            );
            match (is_old, anew) {
                (true, _) => assert_eq!((restored.entries, anew), (entries.clone(), None)),
                (false, Some(anew)) => member.append(None, &[], anew),
                (false, None) => assert_eq!(restored.hard_state, state),
            }
            states[if is_old {
                0
            } else {
                1 + usize::from(anew.is_none())
            }] += 1;
            drop(member);
            let restored = Member::open(&disk).restored;
            let again = Node::new(NodeConfig::new(MemberId(1), 3), restored);
            assert_eq!(again.expect("it opened before").1, None);
        }
    }
    println!("states with the old engine, the new one, the new one and its mark: {states:?}");
    assert!(states.iter().all(|count| 0 < *count), "{states:?}");
}
