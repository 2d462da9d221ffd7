//! Tests of the log: against a model, through every crash, and with damaged files.

mod crash;
mod damage;
mod last_frame;
mod model;
mod old_format;
mod real;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::{ClusterId, Entry, EntryKind, HardState, Index, LastIncluded, MemberId, Term};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Identity, Recovered, Wal, WalConfig, WalError};
use crate::disk::sim::SimDisk;

const DIR: &str = "/member/wal";
const IDENTITY: Identity = Identity {
    cluster: ClusterId(0xc1),
    member: MemberId(0xa1),
};
const CONFIG: WalConfig = WalConfig {
    segment_bytes: 4096,
    unsafe_no_fsync: false,
};

fn open(disk: &SimDisk) -> Result<(Wal<SimDisk>, Recovered), WalError> {
    Wal::create_or_open(Arc::new(disk.clone()), Path::new(DIR), IDENTITY, CONFIG)
}

/// The expected content of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    mark: LastIncluded,
    entries: Vec<Entry>,
}

impl Model {
    fn of(recovered: &Recovered) -> Model {
        Model {
            hard_state: recovered.hard_state,
            mark: recovered.mark,
            entries: recovered.entries.clone(),
        }
    }

    fn last(&self) -> u64 {
        self.entries
            .last()
            .map_or(self.mark.index, |entry| entry.index)
            .0
    }

    fn append(&mut self, batch: &Batch) {
        if let Some(mark) = batch.mark.filter(|mark| self.mark.index < mark.index) {
            let marked = |entry: &Entry| entry.index == mark.index && entry.term == mark.term;
            let kept = self.entries.iter().any(marked);
            self.entries
                .retain(|entry| kept && mark.index < entry.index);
            self.mark = mark;
        }
        for entry in &batch.entries {
            self.entries.retain(|known| known.index < entry.index);
            self.entries.push(entry.clone());
        }
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
    }
}

#[derive(Clone, Debug, Default)]
struct Batch {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    mark: Option<LastIncluded>,
}

/// One step of a workload. Its numbers select among the operations that the log's state allows.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A number of entries after the end, and their size.
    Append(u8, u8),
    /// Entries that replace the last few.
    Conflict(u8, u8),
    Vote,
    /// A received snapshot, after the end or of another term.
    Snapshot(u8),
    Truncate(u8),
    Prepare,
    Sync,
    /// The process restarts, the machine does not.
    Reopen,
}

impl Step {
    fn random(rng: &mut ChaCha8Rng) -> Step {
        match rng.random_range(0..24) {
            0..9 => Step::Append(rng.random_range(1..5), rng.random()),
            9..11 => Step::Conflict(rng.random_range(1..5), rng.random()),
            11 => Step::Vote,
            12 => Step::Snapshot(rng.random_range(0..4)),
            13..15 => Step::Truncate(rng.random_range(0..8)),
            15..17 => Step::Prepare,
            17..23 => Step::Sync,
            _ => Step::Reopen,
        }
    }

    /// The batch of a step, for a log that holds `model`.
    fn batch(self, model: &Model) -> Batch {
        let term = model.hard_state.term.0.max(1);
        let raised = Some(HardState {
            term: Term(term + 1),
            vote: MemberId(term % 5),
            commit: model.mark.index,
        });
        match self {
            Step::Append(count, size) => Batch {
                entries: entries(model.last() + 1, count, term, size),
                ..Batch::default()
            },
            Step::Conflict(count, size) => {
                let back = u64::from(count).min(model.last() - model.mark.index.0);
                Batch {
                    entries: entries(model.last() + 1 - back, 1 + count / 2, term + 1, size),
                    hard_state: raised,
                    mark: None,
                }
            }
            Step::Vote => Batch {
                hard_state: raised,
                ..Batch::default()
            },
            Step::Snapshot(ahead) => Batch {
                mark: Some(LastIncluded {
                    index: Index(model.last().max(model.mark.index.0 + 1) + u64::from(ahead)),
                    term: Term(term + 1),
                }),
                hard_state: raised,
                entries: Vec::new(),
            },
            Step::Truncate(back) => {
                let index = model.last().saturating_sub(u64::from(back));
                let entry = model.entries.iter().find(|entry| entry.index.0 == index);
                Batch {
                    mark: entry.map(|entry| LastIncluded {
                        index: entry.index,
                        term: entry.term,
                    }),
                    ..Batch::default()
                }
            }
            Step::Prepare | Step::Sync | Step::Reopen => Batch::default(),
        }
    }
}

fn entries(first: u64, count: u8, term: u64, size: u8) -> Vec<Entry> {
    // Mostly one size, so that frames of different generations of a file have the same offsets.
    let size = if size.is_multiple_of(2) {
        100
    } else {
        usize::from(size) * 3
    };
    let entry = |index| Entry {
        index: Index(index),
        term: Term(term),
        kind: match size % 3 {
            0 => EntryKind::Membership,
            _ => EntryKind::Command,
        },
        data: Bytes::from(format!("{index}/{term} ").repeat(size / 6)),
        context: Bytes::from(vec![7; size % 3]),
    };
    (first..first + u64::from(count)).map(entry).collect()
}

/// A running workload: the log, its expected content, and the guarantees over time.
struct Run {
    disk: SimDisk,
    wal: Option<Wal<SimDisk>>,
    /// The content including everything appended.
    model: Model,
    /// The durable content after a number of disk operations; between two of them, either is
    /// valid.
    promised: Vec<(u64, Model)>,
    /// The number of disk operations at each open, and the boot number that it returned.
    boots: Vec<(u64, u64)>,
}

impl Run {
    fn new(disk: SimDisk) -> Run {
        Run {
            disk,
            wal: None,
            model: Model::default(),
            promised: vec![(0, Model::default())],
            boots: Vec::new(),
        }
    }

    fn durable(&self) -> &Model {
        &self.promised.last().expect("never empty").1
    }

    fn promise(&mut self) {
        self.promised
            .push((self.disk.operations(), self.model.clone()));
    }

    fn open(&mut self) -> Result<(), WalError> {
        self.wal = None;
        self.disk.kill();
        let (wal, recovered) = open(&self.disk)?;
        let found = Model::of(&recovered);
        assert_eq!(found, *self.durable());
        let boot = self.boots.last().map_or(0, |(_, boot)| *boot);
        assert!(boot < recovered.boot);
        self.boots.push((self.disk.operations(), recovered.boot));
        self.model = found;
        self.wal = Some(wal);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), WalError> {
        let Some(wal) = &mut self.wal else {
            return self.open();
        };
        let batch = step.batch(&self.model);
        match step {
            Step::Reopen => return self.open(),
            Step::Prepare => match wal.prepare_next()? {
                true => {}
                false => wal.note_end()?,
            },
            Step::Sync => {
                wal.sync()?;
                self.promise();
            }
            Step::Truncate(_) => {
                let Some(mark) = batch.mark else {
                    return Ok(());
                };
                self.model.append(&batch);
                wal.truncate_before(mark.index, mark.term)?;
                self.promise();
            }
            _ => {
                self.model.append(&batch);
                wal.append(batch.hard_state, &batch.entries, batch.mark)?;
            }
        }
        let wal = self.wal.as_ref().expect("it was there");
        assert_eq!(wal.last_index().0, self.model.last());
        assert_eq!(wal.first_index().0, self.model.mark.index.0 + 1);
        Ok(())
    }
}

fn script(seed: u64, length: usize) -> Vec<Step> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..length).map(|_| Step::random(&mut rng)).collect()
}
