//! The simulator: a whole cluster, its network, its disks and its clients in one thread, on a
//! virtual clock, from one seed.
//!
//! A member's consensus, applier, state machine and write-ahead log are the product's, and so are
//! the steps of its recovery. `world` and `applier` carry out their effects as the product's shell
//! does.
//!
//! Reading order: `swarm` (the draws of a seed), `world` (the loop and a member's turn), `dispatch`
//! (the events), `nodes` (one member), then its threads (`messages`, `log_thread`, `applier`,
//! `snapshots`, `transfers`, `lives`, `joining`), `faults`, `troubles`, `damage` and `decay`,
//! `operator`, `load`, `silence`, `clients`, `reads`, `tree` (the v2 API), `watch` (v3 watches),
//! `lease`, `lock`, `auth` (users and rights), `finale` (the second phase).

mod applier;
mod auth;
mod clients;
mod clock;
mod corruption;
mod damage;
mod decay;
mod dice;
mod dispatch;
mod event;
mod faults;
mod finale;
mod joining;
mod lease;
mod lives;
mod load;
mod lock;
mod log_thread;
mod messages;
mod mutant;
mod net;
mod nodes;
mod operator;
mod peers;
mod reads;
mod run;
mod silence;
mod snapshots;
mod storage;
mod swarm;
mod tally;
mod transfers;
mod tree;
mod troubles;
mod watch;
mod world;

pub use lease::Leases;
pub use mutant::Mutant;
pub use run::{Failure, Options, Report, run};
pub use swarm::Swarm;
pub use troubles::Troubles;
pub use watch::StreamPlan;
