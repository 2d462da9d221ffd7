//! A member without IO: what it decides and what it applies, and nothing of how that is carried out.
//!
//! [`Consensus`] owns the node: it takes [`ConsensusEvent`]s and returns [`ConsensusEffects`]. [`Applier`] owns the
//! state machine: it takes [`ApplierEvent`] and returns [`ApplierEffects`]. [`LogBatch`] is what shares a sync of the
//! log, with the [`LogEffects`] that follow it; [`SnapshotSlot`] is the one place for a snapshot that comes in,
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
mod recovery;
mod snapshot_slot;

pub use applier::{Applier, ApplierEffects, ApplierEvent, EngineNumber, FlushPolicy};
pub use batched_reads::{BatchedReads, ReadTicket};
pub use consensus::{Consensus, ConsensusEffects, ConsensusEvent};
pub use expirer::{Expirer, ExpirerEffects, ExpirerEvent};
pub use log_batch::{LogBatch, LogEffects, LogPause, LogRecord, LogWork, PauseStep, Written};
pub use messages::{forward_failed, forwarded_id, has_room, reject_forwards, weight};
pub use peers::{Membership, Peers};
pub use recovery::{
    Opened, Recovered, RecoveredLog, Recovery, RecoveryError, RecoveryFlags, StartKind, has_run,
    latest,
};
pub use snapshot_slot::{
    Admission, EVICTION_TIMEOUT_MS, Offer, PIECE_TIMEOUT_MS, SnapshotSlot, TransferNumber, offered,
};
