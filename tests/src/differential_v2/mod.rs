//! The same HTTP requests of the v2 API on Keelson and on a real etcd; every reply must be the
//! same.
//!
//! `generate` makes a seeded sequence out of `pools`, `subject` carries it out, `watch` holds
//! watchers beside it, `compare` finds the differences, `accepted` has those that
//! `golden/differences_v2.md` explains, `run` fails on any other. `auth` and `expiry` are sequences
//! of their own: accounts, and keys with a TTL.

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
