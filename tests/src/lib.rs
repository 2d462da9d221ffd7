//! Tests of the whole product: models, checkers, invariants, the simulator, and real processes.
//!
//! Reading order: `history` has the operations and their outcomes, `keelson_model` the expected
//! ones, `check` compares the two. `sim` simulates faults of every kind, from one seed; `invariant`
//! checks the members meanwhile. `proc` and `chaos` do the same with real processes; `bring_up`
//! starts hosts that decide their roles by themselves; `differential` sends the same requests to
//! Keelson and etcd.

pub mod bring_up;
pub mod chaos;
pub mod check;
pub mod deis;
pub mod differential;
pub mod differential_v2;
pub mod environment;
pub mod history;
pub mod http;
pub mod invariant;
pub mod model;
pub mod proc;
pub mod sim;
