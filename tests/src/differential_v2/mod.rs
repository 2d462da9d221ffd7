//! The same HTTP requests of the v2 API on us and on a real etcd; every reply must be the same.
//!
//! `generate` makes a seeded sequence out of `pools`, `subject` carries it out, `watch` holds
//! watchers beside it, `compare` says what differs, `accepted` knows the differences that
//! `golden/differences_v2.md` explains, `run` fails on any other. `auth` and `expiry` are sequences
//! of their own kind: accounts, and keys whose time runs out.

pub mod accepted;
pub mod auth;
pub mod compare;
pub mod expiry;
pub mod generate;
pub mod json;
pub mod pools;
pub mod report;
pub mod run;
pub mod subject;
pub mod watch;
