//! The same operations on us and on a real etcd; every answer must be the same.
//!
//! `generate` makes a seeded sequence, `answer` carries it out and masks what must differ (ids and
//! terms), `accepted` knows the differences that `golden/differences.md` explains, `run` fails on
//! any other. `members` does so with membership calls on clusters of three.

pub mod accepted;
pub mod answer;
pub mod generate;
pub mod members;
pub mod run;
