//! The threads of one member, and the state they share.
//!
//! The worker (`worker.rs`) runs on the threads that bring it events, one at a time
//! (`keelson_executor`):
//!
//! | part | owns | does |
//! |---|---|---|
//! | `consensus_shell.rs` | `keelson_core::member::Consensus` | messages, log writes, snapshots |
//! | `applier_shell.rs` | `keelson_core::member::Applier` | answers, events, flushes |
//!
//! Three threads do what blocks: the log writer (`log_writer.rs`) for its fdatasync, the flusher
//! (`flusher.rs`) for the engine, and the executor's timer thread for timeouts.
//!
//! Only `Consensus` calls `Node::step`. A fatal error in any part ends the member (`fatal.rs`): a
//! restart recovers from it, continuing might not.

pub(crate) mod applier_shell;
pub(crate) mod bootstrap;
pub(crate) mod consensus_shell;
pub(crate) mod fatal;
pub(crate) mod flusher;
pub(crate) mod foreign;
pub(crate) mod founding;
pub(crate) mod inbox;
pub(crate) mod join;
pub(crate) mod log_writer;
mod raft_lines;
pub(crate) mod recover;
pub(crate) mod snapshot_slot;
pub(crate) mod staging;
pub(crate) mod traffic;
pub(crate) mod waiters;
pub(crate) mod worker;

#[cfg(test)]
#[cfg(feature = "lmdb")]
mod damaged;
#[cfg(test)]
#[cfg(feature = "lmdb")]
mod full_disk;
