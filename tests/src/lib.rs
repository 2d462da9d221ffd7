//! Everything that tries to prove Keelson wrong: models, checkers, invariants and the simulator.
//!
//! Reading order: `history` is what happened, `model` is what should have, `check` compares the
//! two. `sim` makes things happen that no operator would wish for, from one seed; `invariant` looks
//! at the members while it does.

pub mod check;
pub mod history;
pub mod invariant;
pub mod model;
pub mod sim;
