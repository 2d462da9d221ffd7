//! From an open log to a member that can go on: the IO of `keelson_core::member::Recovery`, on a real disk
//! and on the simulator's.

use std::path::Path;
use std::sync::Arc;

use keelson_core::SnapshotMark;
use keelson_core::engine::{Engine, EngineError};
use keelson_core::member::{LogFound, Recovery, RecoveryError, RecoveryFlags};
use keelson_core::node::{Node, NodeConfig};
use keelson_core::state::{Genesis, Limits, StateMachine};

use crate::disk::Disk;
use crate::engine::generation::{GenerationError, Generations};
use crate::wal::{Recovered, Wal, WalError};

/// What a member is opened with, besides its log.
pub struct Opening<'a, D, O> {
    /// The disk that has its state.
    pub disk: Arc<D>,
    /// The directory of its generations.
    pub dir: &'a Path,
    /// What a member without state begins with.
    pub genesis: Option<Genesis>,
    /// What the operator says of this start.
    pub flags: RecoveryFlags,
    /// How much the state may grow.
    pub limits: Limits,
    /// How its node behaves.
    pub node: NodeConfig,
    /// Opens the engine in a generation's directory, or begins one.
    pub open_engine: O,
}

/// A member that can go on.
pub struct Opened<D: Disk> {
    /// Its part in consensus.
    pub node: Node,
    /// Its state machine.
    pub state: StateMachine,
    /// What keeps that.
    pub engine: Arc<dyn Engine>,
    /// The directory of the engine, and of snapshots on their way in.
    pub generations: Generations<D>,
    /// With which the log has begun anew, if it has: the engine got a snapshot that the log lacks.
    pub mark: Option<SnapshotMark>,
    /// Neither the engine nor the log held anything of an earlier life.
    pub is_new: bool,
}

/// Why a member cannot go on with what it has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log's.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The directory of generations.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the two hold is no member.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// Opens the engine and makes it agree with the log, which is open and held `found`. Blocks.
///
/// # Errors
/// Something is missing, damaged or another member's. What the member held is as it was.
pub fn open<D, O>(
    wal: &mut Wal<D>,
    found: Recovered,
    opening: Opening<'_, D, O>,
) -> Result<Opened<D>, Error>
where
    D: Disk,
    O: FnOnce(&Path) -> Result<Arc<dyn Engine>, EngineError>,
{
    let log = LogFound {
        cluster: found.identity.cluster,
        hard_state: found.hard_state,
        mark: found.mark,
        entries: found.entries,
    };
    let recovery = Recovery::begin(log, opening.genesis, opening.flags, opening.limits)?;
    let mut generations = Generations::open(opening.disk, opening.dir)?;
    let (dir, fresh) = match generations.current() {
        Some(dir) => (dir, None),
        None => {
            let fresh = generations.begin()?;
            (fresh.dir.clone(), Some(fresh))
        }
    };
    let engine = (opening.open_engine)(&dir)?;
    let opened = recovery.open(Arc::clone(&engine))?;
    if let Some(fresh) = fresh {
        generations.switch(&fresh, opened.holds())?;
    }
    if opened.goes_on_alone() {
        let me = opening.node.member;
        tracing::warn!(member = %me, "going on as a cluster of one; every other member is removed");
    }
    let recovered = opened.agree(opening.node, generations.began())?;
    if let Some(mark) = recovered.mark {
        wal.append(None, &[], Some(mark))?;
        wal.sync()?;
    }
    generations.note_began((&recovered.state.applied()).into())?;
    Ok(Opened {
        node: recovered.node,
        state: recovered.state,
        engine,
        generations,
        mark: recovered.mark,
        is_new: recovered.is_new,
    })
}
