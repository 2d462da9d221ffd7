//! A snapshot on its way in: rows go into a fresh engine beside the one in use, which is swapped in
//! once everything has come, has been checked and is durable.

use std::sync::Arc;

use keelson_core::engine::Engine;
use keelson_core::state::{Limits, SnapshotBuilder, StateMachine};
use keelson_core::{Index, Roster, SnapshotMark, Term};
use keelson_proto::peer::{RaftMessage, snapshot_chunk};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::Status;

use super::driver::Event;
use super::place::{Offer, Place, Slot};
use super::recover::EngineOptions;
use super::turns::Turns;
use crate::disk::RealDisk;
use crate::engine::generation::{Fresh, GenerationError, Generations};
use crate::peer::{Evicted, SnapshotSink};

/// A whole snapshot, ready to be gone on from.
pub(crate) struct Staged {
    engine: Arc<dyn Engine>,
    state: StateMachine,
    generations: Arc<Mutex<Generations<RealDisk>>>,
    fresh: Fresh,
    mark: SnapshotMark,
    _slot: Slot,
}

impl Staged {
    /// One that did not come from a peer.
    #[cfg(test)]
    pub(crate) fn of(
        engine: Arc<dyn Engine>,
        state: StateMachine,
        generations: Arc<Mutex<Generations<RealDisk>>>,
        fresh: Fresh,
        slot: Slot,
    ) -> Staged {
        let applied = state.applied();
        Staged {
            engine,
            state,
            generations,
            fresh,
            mark: SnapshotMark {
                index: Index(applied.index),
                term: Term(applied.term),
            },
            _slot: slot,
        }
    }

    /// What the snapshot holds.
    pub(crate) fn mark(&self) -> SnapshotMark {
        self.mark
    }

    /// The members as of that.
    pub(crate) fn roster(&self) -> Roster {
        self.state.view().roster()
    }

    /// Points the data directory at the snapshot, durably.
    ///
    /// # Errors
    /// The disk's; which of the two states the directory points at is then unknown.
    pub(crate) fn install(self) -> Result<(Arc<dyn Engine>, StateMachine), GenerationError> {
        let mut generations = self.generations.lock();
        generations.switch(&self.fresh, self.mark)?;
        // Readers that still have the old engine open keep it until they are done.
        generations.remove_others()?;
        drop(generations);
        Ok((self.engine, self.state))
    }
}

/// Receives one snapshot at a time.
pub(crate) struct Stager {
    pub(crate) generations: Arc<Mutex<Generations<RealDisk>>>,
    pub(crate) options: EngineOptions,
    pub(crate) limits: Limits,
    pub(crate) turns: Arc<Turns>,
    pub(crate) place: Arc<Place>,
}

/// A snapshot of which part has come.
pub(crate) struct Staging {
    offer: RaftMessage,
    mark: SnapshotMark,
    engine: Arc<dyn Engine>,
    builder: Option<SnapshotBuilder>,
    fresh: Fresh,
    slot: Slot,
}

impl SnapshotSink for Stager {
    type Staging = Staging;

    async fn begin(&self, offer: RaftMessage) -> Result<(Staging, Evicted), Status> {
        let meta = offer.snapshot.as_ref();
        let meta = meta.ok_or_else(|| Status::invalid_argument("an offer without a snapshot"))?;
        let mark = SnapshotMark {
            index: Index(meta.index),
            term: Term(meta.term),
        };
        let (slot, evicted) = self.place.take(Offer::of(&offer)).await?;
        let mut generations = self.generations.lock();
        // What an earlier attempt left.
        generations.remove_others().map_err(internal)?;
        let fresh = generations.begin().map_err(internal)?;
        drop(generations);
        let EngineOptions { kind, map_bytes } = self.options;
        let engine = crate::engine::open(kind, &fresh.dir, map_bytes).map_err(internal)?;
        let builder = Some(SnapshotBuilder::new(Arc::clone(&engine)));
        tracing::info!(
            index = mark.index.0,
            term = mark.term.0,
            "receiving a snapshot"
        );
        let staging = Staging {
            offer,
            mark,
            engine,
            builder,
            fresh,
            slot,
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
            let opened = StateMachine::open(Arc::clone(&staging.engine), limits);
            (staging, opened)
        });
        let (staging, opened) = opening.await.map_err(internal)?;
        let state = opened
            .map_err(internal)?
            .ok_or_else(|| Status::data_loss("no state came"))?;
        let applied = state.applied();
        if (applied.index, applied.term) != (staging.mark.index.0, staging.mark.term.0) {
            return Err(Status::data_loss(
                "the state is not the one that was offered",
            ));
        }
        let staged = Staged {
            engine: staging.engine,
            state,
            generations: Arc::clone(&self.generations),
            fresh: staging.fresh,
            mark: staging.mark,
            _slot: staging.slot,
        };
        let (answer, answered) = oneshot::channel();
        let event = Event::SnapshotStaged(staging.offer, Box::new(staged), answer);
        self.turns
            .send(event)
            .map_err(|_| Status::unavailable("the member stops"))?;
        // Stale is as good as installed: the sender may go on with the log.
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
