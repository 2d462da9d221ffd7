//! An incoming snapshot: its rows go into a new engine beside the current one. The new engine
//! replaces it once the snapshot is complete, checked and durable.

use std::sync::Arc;

use keelson_core::engine::Engine;
use keelson_core::member::{Offer, offered};
use keelson_core::state::{Limits, SnapshotBuilder, StateMachine};
use keelson_core::{LastIncluded, Roster};
use keelson_proto::peer::{RaftMessage, snapshot_chunk};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::recover::EngineOptions;
use super::snapshot_slot::{SharedSlot, SlotGuard};
use super::worker::{MemberExecutor, WorkerEvent};
use crate::disk::RealDisk;
use crate::engine::generation::{Fresh, GenerationError, Generations};
use crate::peer::{Evicted, SnapshotSink};

#[cfg(test)]
mod tests;

/// A snapshot's new engine before it is installed. If it is not installed, its rows are removed
/// at once: the disk may be full, and the log needs the room. The slot is freed afterwards.
struct UninstalledSnapshot(Option<NewGeneration>);

struct NewGeneration {
    engine: Arc<dyn Engine>,
    generations: Arc<Mutex<Generations<RealDisk>>>,
    fresh: Fresh,
    _slot: SlotGuard,
    /// A stop waits until the rows are removed, also those that a thread removes.
    _in_use: TaskTrackerToken,
}

impl UninstalledSnapshot {
    /// Creates the engine. Blocks the thread.
    fn begin(
        generations: Arc<Mutex<Generations<RealDisk>>>,
        options: EngineOptions,
        slot: SlotGuard,
        in_use: TaskTrackerToken,
    ) -> Result<UninstalledSnapshot, Status> {
        let mut locked = generations.lock();
        // Removes what an earlier process left or could not remove.
        locked.remove_others().map_err(internal)?;
        let fresh = locked.begin().map_err(internal)?;
        drop(locked);
        let opened = crate::engine::open(options.kind, &fresh.dir, options.map_bytes);
        let engine = opened.map_err(|error| {
            let _ = generations.lock().discard(&fresh);
            internal(error)
        })?;
        Ok(UninstalledSnapshot(Some(NewGeneration {
            engine,
            generations,
            fresh,
            _slot: slot,
            _in_use: in_use,
        })))
    }

    fn engine(&self) -> Arc<dyn Engine> {
        let held = self.0.as_ref().expect("taken only by what consumes it");
        Arc::clone(&held.engine)
    }

    fn keep(mut self) -> NewGeneration {
        self.0.take().expect("taken only by what consumes it")
    }
}

impl NewGeneration {
    /// Removes the rows, and then frees the slot.
    fn discard(self) {
        let discarded = self.generations.lock().discard(&self.fresh);
        if let Err(error) = discarded {
            tracing::warn!(%error, "an unfinished snapshot was not removed");
        }
    }
}

impl Drop for UninstalledSnapshot {
    /// Removes the rows on a new thread: the current one may be a thread that must not block.
    fn drop(&mut self) {
        let Some(held) = self.0.take() else {
            return;
        };
        let thread = std::thread::Builder::new().name("keelson-discard".to_owned());
        if let Err(error) = thread.spawn(move || held.discard()) {
            tracing::warn!(%error, "an unfinished snapshot is removed later");
        }
    }
}

/// A complete snapshot, ready to be installed.
pub(crate) struct Staged {
    state: StateMachine,
    mark: LastIncluded,
    unfinished: UninstalledSnapshot,
}

impl Staged {
    /// A snapshot that was not received from a peer.
    #[cfg(test)]
    pub(crate) fn of(
        engine: Arc<dyn Engine>,
        state: StateMachine,
        generations: Arc<Mutex<Generations<RealDisk>>>,
        fresh: Fresh,
        slot: SlotGuard,
    ) -> Staged {
        Staged {
            mark: LastIncluded::from(&state.applied()),
            state,
            unfinished: UninstalledSnapshot(Some(NewGeneration {
                engine,
                generations,
                fresh,
                _slot: slot,
                _in_use: crate::jobs::Jobs::default().token(),
            })),
        }
    }

    /// The mark of the snapshot: its last included index and term.
    pub(crate) fn mark(&self) -> LastIncluded {
        self.mark
    }

    /// The membership at the mark.
    pub(crate) fn roster(&self) -> Roster {
        self.state.view().roster()
    }

    /// Makes the snapshot the current state of the data directory, durably.
    ///
    /// # Errors
    /// The disk's. It is then unknown which of the two states is the current one.
    pub(crate) fn install(self) -> Result<(Arc<dyn Engine>, StateMachine), GenerationError> {
        let held = self.unfinished.keep();
        let mut generations = held.generations.lock();
        generations.switch(&held.fresh, self.mark)?;
        // Readers that still have the old engine open keep it until they finish.
        generations.remove_others()?;
        drop(generations);
        Ok((held.engine, self.state))
    }
}

/// Receives snapshots from peers, one at a time.
pub(crate) struct Stager {
    pub(crate) generations: Arc<Mutex<Generations<RealDisk>>>,
    pub(crate) options: EngineOptions,
    pub(crate) limits: Limits,
    /// The newest kind of command that the member applies.
    pub(crate) command_version: u32,
    pub(crate) executor: Arc<MemberExecutor>,
    pub(crate) slot: Arc<SharedSlot>,
    pub(crate) in_use: TaskTrackerToken,
}

/// A partly received snapshot.
pub(crate) struct Staging {
    offer: RaftMessage,
    mark: LastIncluded,
    builder: Option<SnapshotBuilder>,
    unfinished: UninstalledSnapshot,
}

impl SnapshotSink for Stager {
    type Staging = Staging;

    async fn begin(&self, offer: RaftMessage) -> Result<(Staging, Evicted), Status> {
        let mark = offered(&offer)
            .ok_or_else(|| Status::invalid_argument("an offer without a snapshot"))?;
        let (slot, evicted) = self.slot.take(Offer::of(&offer)).await?;
        let (generations, options) = (Arc::clone(&self.generations), self.options);
        let in_use = self.in_use.clone();
        let beginning = tokio::task::spawn_blocking(move || {
            UninstalledSnapshot::begin(generations, options, slot, in_use)
        });
        let unfinished = beginning.await.map_err(internal)??;
        tracing::info!(
            index = mark.index.0,
            term = mark.term.0,
            "receiving a snapshot"
        );
        let staging = Staging {
            offer,
            mark,
            builder: Some(SnapshotBuilder::new(unfinished.engine())),
            unfinished,
        };
        Ok((staging, evicted))
    }

    async fn push(
        &self,
        mut staging: Staging,
        part: snapshot_chunk::Part,
    ) -> Result<Staging, Status> {
        let working = tokio::task::spawn_blocking(move || {
            match part {
                snapshot_chunk::Part::Offer(_) => {
                    return Err(Status::invalid_argument("a second offer"));
                }
                snapshot_chunk::Part::Rows(rows) => {
                    let builder = staging.builder.as_mut().ok_or_else(ended)?;
                    builder.push(rows).map_err(internal)?;
                }
                snapshot_chunk::Part::End(end) => {
                    let builder = staging.builder.take().ok_or_else(ended)?;
                    builder.finish(end).map_err(internal)?;
                }
            }
            Ok(staging)
        });
        working.await.map_err(internal)?
    }

    async fn finish(&self, staging: Staging) -> Result<(), Status> {
        let limits = self.limits;
        let opening = tokio::task::spawn_blocking(move || {
            let opened = StateMachine::open(staging.unfinished.engine(), limits);
            (staging, opened)
        });
        let (staging, opened) = opening.await.map_err(internal)?;
        let mut state = opened
            .map_err(internal)?
            .ok_or_else(|| Status::data_loss("no state came"))?;
        state.pretend(self.command_version);
        if LastIncluded::from(&state.applied()) != staging.mark {
            return Err(Status::data_loss(
                "the state is not the one that was offered",
            ));
        }
        let staged = Staged {
            state,
            mark: staging.mark,
            unfinished: staging.unfinished,
        };
        let (answer, answered) = oneshot::channel();
        let event = WorkerEvent::SnapshotStaged(staging.offer, Box::new(staged), answer);
        self.executor
            .send(event)
            .map_err(|_| Status::unavailable("the member stops"))?;
        // A stale snapshot counts as installed: the sender may continue with the log.
        let taken = answered
            .await
            .map_err(|_| Status::unavailable("the member stops"))?;
        tracing::info!(taken, "a snapshot has arrived");
        Ok(())
    }
}

fn ended() -> Status {
    Status::invalid_argument("a piece behind the last one")
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
