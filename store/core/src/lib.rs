//! Keelson without IO: the consensus step and the replicated state machine.
//!
//! The crate uses no tokio, files, clocks or threads: time is an argument, the caller reports what
//! is durable, and the same inputs give the same outputs. `keelson-store` runs it on real disks and
//! sockets; the simulator in `keelson-tests` runs it under injected faults.

mod committed;
pub mod engine;
pub mod lock;
pub mod member;
pub mod node;
pub mod proposal;
mod roster;
pub mod state;
pub mod tree;
mod types;
pub mod watch;

pub use committed::{Committed, ConfOutcome};
pub use roster::{Roster, RosterError};
pub use types::*;
