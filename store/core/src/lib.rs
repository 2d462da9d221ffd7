//! Keelson without IO: the consensus step and the replicated state machine.
//!
//! Nothing here knows of tokio, files, clocks or threads: time is an argument, durability is the
//! caller's promise, and the same inputs give the same outputs. `keelson-store` drives it for real;
//! the simulator in `keelson-tests` drives it through disasters.

mod committed;
pub mod engine;
pub mod member;
pub mod node;
pub mod proposal;
mod roster;
pub mod state;
pub mod tree;
mod types;

pub use committed::{Committed, ConfOutcome};
pub use roster::{Roster, RosterError};
pub use types::*;
