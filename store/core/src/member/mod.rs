//! A member without IO: what it decides and what it applies, and nothing of how that is carried out.
//!
//! [`Consensus`] owns the node: it takes [`Event`]s and returns [`ConsensusEffects`]. [`Applier`] owns the
//! state machine: it takes [`Work`] and returns [`ApplierEffects`]. [`LogBatch`] is what shares a sync of the
//! log, with the [`LogEffects`] that follow it; [`Place`] is the one place for a snapshot that comes in,
//! [`Peers`] is whose messages are taken, [`BatchedReads`] which reads share a question to the leader, and
//! [`Recovery`] is how a member begins. [`Expirer`] proposes
//! the end of nodes of the v2 tree. The caller carries the effects out: `keelson-store` on threads, disks and
//! sockets, the simulator of `keelson-tests` on a virtual clock. Neither decides anything. Consensus and applier
//! are apart so that a loaded member may run them on two threads.

mod applied_reads;
mod applier;
mod batched_reads;
mod consensus;
mod expirer;
mod log_batch;
mod messages;
mod peers;
mod place;
mod recovery;

pub use applier::{Applier, ApplierEffects, EngineNumber, FlushPolicy, Work};
pub use batched_reads::{BatchedReads, ReadPlace};
pub use consensus::{Consensus, ConsensusEffects, Event};
pub use expirer::{Expirer, ExpirerEffects, ExpirerEvent};
pub use log_batch::{LogBatch, LogEffects, LogPause, LogRecord, LogWork, PauseStep, Written};
pub use messages::{crowded, handed, has_room, unsent, weight};
pub use peers::{Belonging, Peers};
pub use place::{
    Admission, EVICTION_PATIENCE_MS, Offer, PIECE_PATIENCE_MS, Place, TransferNumber, offered,
};
pub use recovery::{
    Beginning, LogFound, Opened, Recovered, Recovery, RecoveryError, RecoveryFlags, has_run, latest,
};
