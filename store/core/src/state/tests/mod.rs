//! Tests of the state machine as a whole.

mod auth;
mod auth_model;
mod auth_rules;
mod captures;
mod cluster;
mod compaction;
mod concurrent;
mod damage;
mod harness;
mod hashes;
mod leases;
mod model_test;
mod quirks;
mod requests;
mod snapshots;
mod tree;
mod tree_answers;
mod tree_history;
mod tree_model_test;
mod txns;
mod watch_history;
mod watch_regressions;
mod watch_rights;
mod watches;
mod watches_model;
mod watches_steps;
