//! The tests that need more than one crate: simulator, checkers, real processes, differential.

pub mod chaos;
pub mod differential;
pub mod environment;
pub mod proc;
