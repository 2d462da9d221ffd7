//! The small sequential models: what a single, perfect server would answer.

pub mod kv;
pub mod tree;
