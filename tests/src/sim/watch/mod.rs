//! The v3 API's watches in the simulator: clients with streams of watchers, and what they must be
//! sent.
//!
//! The core's streams run here as shipped: `fan_out` is the member's task that delivers revisions,
//! late and in small steps; `clients` read, are slow, fall away with their members, and go on
//! elsewhere as clientv3 does; `draw` chooses requests; `mistakes` has the mutants. The checks are
//! `check::watch`, by the committed log.

mod clients;
mod draw;
mod fan_out;
mod finale;
mod mistakes;
mod plan;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use keelson_core::{Index, Term};
use keelson_model::kv::Kv;
use keelson_proto::internal::command::Op;

use super::lease;
use super::swarm::Swarm;
use crate::check::replay::Commit;
use crate::check::watch::EventLog;
use crate::history::Request;

pub(super) use fan_out::WatchShell;
pub use plan::StreamPlan;

/// The v3 watches' part of a world, and the committed requests of the v3 API.
pub(super) struct WatchWorld {
    /// The model after every committed request. It is never compacted.
    pub(super) model: Kv,
    /// The changes of each revision.
    pub(super) commits: Vec<Commit>,
    pub(super) log: EventLog,
    streams: Vec<clients::StreamClient>,
}

impl WatchWorld {
    pub(super) fn new(swarm: &Swarm) -> WatchWorld {
        let streams = usize::try_from(swarm.streams.clients).expect("a few");
        WatchWorld {
            model: Kv::default(),
            commits: Vec::new(),
            log: EventLog::default(),
            streams: (0..streams).map(|_| Default::default()).collect(),
        }
    }

    /// The next command is committed, in the entry of that index and term.
    pub(super) fn commit(&mut self, index: Index, term: Term, op: Op) {
        // A refusal is part of the client's answer, which is compared elsewhere.
        match op {
            Op::DeleteRange(delete) => self.write(|model| {
                let _ = model.apply(&Request::DeleteRange(delete));
            }),
            Op::Txn(txn) => self.write(|model| {
                let _ = model.apply(&Request::Txn(txn));
            }),
            Op::Compaction(compact) => self.log.compact(compact.revision),
            // Each lease has a revision of its own.
            Op::LeaseExpire(expire) if expire.term == term.0 => {
                for name in expire.leases {
                    self.write(|model| model.expire(name.id, name.granted));
                }
            }
            op => self.write(|model| {
                lease::replay(model, index, term, op);
            }),
        }
    }

    /// Changes the model, and records what that wrote.
    fn write(&mut self, change: impl FnOnce(&mut Kv)) {
        let before = self.model.revision();
        change(&mut self.model);
        if before < self.model.revision() {
            let changes = self.model.changes();
            self.commits.push(Commit {
                revision: self.model.revision(),
                by_others: changes.keys().any(|key| lease::is_attachable(key)),
                changes: changes.clone(),
            });
            self.log.push(&self.model);
        }
    }
}

/// A flag that a stream's wake sets.
type Woken = Arc<AtomicBool>;
