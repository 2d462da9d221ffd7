//! (being built)

pub mod disk;
pub mod engine;
pub mod wal;
