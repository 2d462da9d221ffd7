//! Small sequential models: the answers of a single, perfect server.

pub mod kv;
pub mod tree;
