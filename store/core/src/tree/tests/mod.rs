//! Tests of the tree by itself.

mod requests;
mod rules;
