//! Closed-loop load on clusters of child processes, ours and another server's in turn.
//!
//! One *cell* is one server, one cluster size, one operation, one round. All cells of a round run
//! before the next round begins, so that a busy machine harms both servers alike.

pub mod cell;
pub mod lease;
pub mod load;
pub mod plan;
pub mod report;
pub mod run;
pub mod wire;

pub use run::run;
