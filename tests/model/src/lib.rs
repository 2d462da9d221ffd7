//! Reference models: the answers of a single, perfect server.
//!
//! They are simple and slow, written from etcd's sources, and have no code in common with the
//! product. Its property tests and the checkers of histories use the same ones.

pub mod auth;
pub mod kv;
pub mod tree;
