//! Measurements: the closed-loop load generator that runs our clusters beside another server's.
//!
//! `cluster` holds the generator; the criterion benchmarks in `benches/benches` stand alone, but for
//! the `machine` that two of them share.

pub mod cluster;
pub mod machine;
