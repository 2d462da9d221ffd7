//! Tests of the tree by itself.

mod depth;
mod expiry;
mod history;
pub(crate) mod requests;
mod rules;
