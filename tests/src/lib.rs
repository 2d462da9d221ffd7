//! Everything that tries to prove Keelson wrong: models, checkers, invariants, the simulator, and real
//! processes.
//!
//! Reading order: `history` is what happened, `model` is what should have, `check` compares the
//! two. `sim` makes things happen that no operator would wish for, from one seed; `invariant` looks
//! at the members while it does. `proc` and `chaos` do it to real processes; `bring_up` starts hosts
//! that have to find out who is a member; `differential` asks us and etcd the same questions.

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
