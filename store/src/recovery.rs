//! Recovers a member from its log and its engine: the IO of `keelson_core::member::Recovery`, on
//! a real disk and on the simulator's.

use std::path::Path;
use std::sync::Arc;

use keelson_core::LastIncluded;
use keelson_core::engine::{Engine, EngineError};
use keelson_core::member::{RecoveredLog, Recovery, RecoveryError, RecoveryFlags};
use keelson_core::node::{Node, NodeConfig};
use keelson_core::state::{Genesis, Limits, StateMachine};

use crate::disk::Disk;
use crate::engine::generation::{GenerationError, Generations};
use crate::wal::{Recovered, Wal, WalError};

/// The inputs of the recovery, besides the log.
pub struct Opening<'a, D, O> {
    /// The disk that holds the state.
    pub disk: Arc<D>,
    /// The directory of the generations.
    pub dir: &'a Path,
    /// The initial state of a member that has none.
    pub genesis: Option<Genesis>,
    /// The operator's flags for this start.
    pub flags: RecoveryFlags,
    /// The limits of the state machine.
    pub limits: Limits,
    /// The configuration of the Raft node.
    pub node: NodeConfig,
    /// Opens or creates the engine in a generation's directory.
    pub open_engine: O,
}

/// A recovered member.
pub struct Opened<D: Disk> {
    /// The Raft node.
    pub node: Node,
    /// The state machine.
    pub state: StateMachine,
    /// The engine of the state machine.
    pub engine: Arc<dyn Engine>,
    /// The directory of the engine, and of snapshots that are being received.
    pub generations: Generations<D>,
    /// The mark at which the log was begun anew, if it was: the engine holds a snapshot that the
    /// log lacks.
    pub mark: Option<LastIncluded>,
    /// Neither the engine nor the log held anything of an earlier run.
    pub is_new: bool,
}

/// Why a member cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The log failed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The directory of the generations failed.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The log and the engine do not form a member.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// Opens the engine and makes it agree with the open log, which held `found`. Blocks the thread.
///
/// # Errors
/// Something is missing or damaged, or belongs to another member. The data is unchanged.
pub fn open<D, O>(
    wal: &mut Wal<D>,
    found: Recovered,
    opening: Opening<'_, D, O>,
) -> Result<Opened<D>, OpeningError>
where
    D: Disk,
    O: FnOnce(&Path) -> Result<Arc<dyn Engine>, EngineError>,
{
    let log = RecoveredLog {
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
    if opened.forces_new_cluster() {
        let me = opening.node.member;
        tracing::warn!(member = %me, "continuing as a cluster of one, without the other members");
    }
    let recovered = opened.reconcile(opening.node, generations.began())?;
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
