//! The flush thread: the only thread that waits for the engine's disk.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::Receiver;
use keelson_core::engine::Engine;
use keelson_core::member::EngineNumber;
use keelson_core::state::Flush;

use super::fatal::Fatal;
use super::worker::{MemberExecutor, WorkerEvent};
use crate::metrics::Histogram;

/// One immutable memtable to be written to the engine.
pub(crate) struct FlushJob {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) number: EngineNumber,
    pub(crate) flush: Flush,
}

/// Runs until the applier drops its sender.
pub(crate) fn run(
    jobs: &Receiver<FlushJob>,
    executor: &MemberExecutor,
    fatal: &Fatal,
    commits: &Histogram,
) {
    for job in jobs {
        let FlushJob {
            engine,
            number,
            flush,
        } = job;
        if fatal.is_raised() {
            return;
        }
        let began = Instant::now();
        if let Err(error) = engine.write(&flush.batch) {
            return fatal.raise("writing to the storage engine", &error);
        }
        commits.observe(began.elapsed());
        // The applier may replace this engine once it has the event, so this thread must not keep
        // it open.
        drop(engine);
        let _ = executor.send(WorkerEvent::Flushed(number, flush));
    }
}
