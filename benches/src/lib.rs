//! Measurements: the closed-loop load generator that runs our clusters beside another server's.
//!
//! `cluster` holds the generator; the criterion benchmarks in `benches/benches` stand alone.

pub mod cluster;
