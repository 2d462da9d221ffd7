//! Tests of the tree by itself.

mod depth;
mod expiry;
mod history;
mod recorded;
pub(crate) mod requests;
mod rules;
