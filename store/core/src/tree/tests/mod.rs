//! Tests of the tree alone.

mod depth;
mod expiry;
mod history;
mod history_bytes;
mod recorded;
mod replicate;
pub(crate) mod requests;
mod rows;
mod rules;
