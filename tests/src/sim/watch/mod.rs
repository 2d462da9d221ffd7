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

use bytes::Bytes;
use keelson_model::kv::Kv;
use keelson_proto::internal::Command;
use keelson_proto::internal::command::Op;
use prost::Message;

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

    /// The next command is committed.
    pub(super) fn commit(&mut self, command: &Bytes) -> Result<(), String> {
        let command = Command::decode(command.clone()).map_err(|e| e.to_string())?;
        let request = match command.op {
            Some(Op::Put(put)) => Request::Put(put),
            Some(Op::DeleteRange(delete)) => Request::DeleteRange(delete),
            Some(Op::Txn(txn)) => Request::Txn(txn),
            Some(Op::Compaction(compact)) => {
                self.log.compact(compact.revision);
                return Ok(());
            }
            _ => return Ok(()),
        };
        // A refusal is part of the client's answer, which is compared elsewhere.
        let _ = self.model.apply(&request);
        if !self.model.changes().is_empty() {
            self.commits.push(Commit {
                revision: self.model.revision(),
                changes: self.model.changes().clone(),
            });
            self.log.push(&self.model);
        }
        Ok(())
    }
}

/// A flag that a stream's wake sets.
type Woken = Arc<AtomicBool>;
