//! Tests of the tree by itself.

mod depth;
mod expiry;
mod history;
mod history_bytes;
mod recorded;
pub(crate) mod requests;
mod rows;
mod rules;
