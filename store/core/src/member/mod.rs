//! A member without IO: what it decides and what it applies, and nothing of how that is carried out.
//!
//! [`Applier`] owns the state machine. It takes [`Work`] and returns [`Effects`]; the caller carries
//! these out: `keelson-store` on threads, disks and sockets, the simulator of `keelson-tests` on a
//! virtual clock. Neither decides anything.

mod applied_reads;
mod applier;

pub use applied_reads::AppliedReads;
pub use applier::{Applier, Effects, EngineNumber, FlushPolicy, Work};
