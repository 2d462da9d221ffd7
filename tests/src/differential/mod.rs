//! The same operations on Keelson and on a real etcd; every answer must be the same.
//!
//! `generate` makes a seeded sequence, `answer` carries it out and masks what always differs (ids
//! and terms), `accepted` has the differences that `golden/differences.md` explains, `run` fails on
//! any other. `watch` records what the watchers receive, and `settle` compares it: events come at
//! no fixed time, so they are compared in order, whenever both servers have sent all of them.
//! `members` does the same with membership calls on clusters of three, and `auth` with users,
//! roles, logins, and requests by users of differing rights.

pub mod accepted;
pub mod answer;
pub mod auth;
mod differences;
pub mod generate;
pub mod members;
pub mod run;
pub mod settle;
pub mod token;
pub mod watch;
