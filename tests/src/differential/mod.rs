//! The same operations on Keelson and on a real etcd; every answer must be the same.
//!
//! `generate` makes a seeded sequence, `answer` carries it out and masks what always differs (ids
//! and terms), `accepted` has the differences that `golden/differences.md` explains, `run` fails on
//! any other. `members` does the same with membership calls on clusters of three.

pub mod accepted;
pub mod answer;
pub mod generate;
pub mod members;
pub mod run;
