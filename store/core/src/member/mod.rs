//! A member without IO: consensus, the applier, and the policies around them.
//!
//! [`Consensus`] owns the node: it takes [`ConsensusEvent`]s and returns [`ConsensusEffects`].
//! [`Applier`] owns the state machine: it takes [`ApplierEvent`]s and returns [`ApplierEffects`].
//! [`LogBatch`] groups log writes that share one sync, and [`LogEffects`] follow that sync.
//! [`SnapshotSlot`] admits one incoming snapshot at a time. [`Peers`] determines whose messages are
//! accepted. [`BatchedReads`] groups reads that share one request to the leader. [`Recovery`] is
//! the start of a member. [`Expirer`] proposes the expiry of nodes of the v2 tree, [`Lessor`] that
//! of leases, and [`Compactor`] chooses the revisions of automatic compaction.
//! Consensus compares the members' running hashes (`auditor.rs`), and replaces the state of a
//! member that differs (`healer.rs`).
//!
//! The caller carries out the effects and decides nothing: `keelson-store` on threads, disks and
//! sockets, the simulator of `keelson-tests` on a virtual clock. Consensus and applier are separate
//! so that a loaded member may run them on two threads.

mod applied_reads;
mod applier;
mod auditor;
mod batched_reads;
mod compactor;
mod consensus;
mod expirer;
mod healer;
mod lessor;
mod log_batch;
mod messages;
mod pairs;
mod peers;
mod recovery;
mod snapshot_slot;
#[cfg(test)]
mod tests;

pub use applier::{Applier, ApplierEffects, ApplierEvent, EngineNumber, FlushPolicy};
pub use auditor::{AuditNote, AuditPolicy};
pub use batched_reads::{BatchedReads, ReadTicket};
pub use compactor::{AutoCompaction, Compactor};
pub use consensus::{Consensus, ConsensusEffects, ConsensusEvent};
pub use expirer::{Expirer, ExpirerEffects, ExpirerEvent};
pub use lessor::{LeaseMessage, LeaseOutcome, Lessor, LessorEffects, LessorEvent};
pub use log_batch::{LogBatch, LogEffects, LogPause, LogRecord, LogWork, PauseStep, Written};
pub use messages::{forward_failed, forwarded_id, has_room, reject_forwards, weight};
pub use pairs::{PairsJudgement, judge_pairs};
pub use peers::{Membership, Peers};
pub use recovery::{
    Opened, Recovered, RecoveredLog, Recovery, RecoveryError, RecoveryFlags, StartKind, has_run,
    latest,
};
pub use snapshot_slot::{
    Admission, EVICTION_TIMEOUT_MS, Offer, PIECE_TIMEOUT_MS, SnapshotSlot, TransferNumber, offered,
};
