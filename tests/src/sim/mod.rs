//! The simulator: a whole cluster, its network, its disks and its clients in one thread, on a
//! virtual clock, from one seed.
//!
//! Consensus, state machine and write-ahead log are the real ones; `nodes` is the second driver
//! over the same `Input` and `Output` as the real one. Reading order: `swarm` (what a seed chooses),
//! `world` (the loop), `nodes` (one member), `faults`, `clients`, `finale` (the second phase).

mod clients;
mod clock;
mod dice;
mod faults;
mod finale;
mod mutant;
mod net;
mod nodes;
mod run;
mod storage;
mod swarm;
mod world;

pub use mutant::Mutant;
pub use run::{Failure, Options, Report, run};
pub use swarm::Swarm;
