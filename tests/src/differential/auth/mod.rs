//! The same requests by users of differing rights on Keelson and on a real etcd.
//!
//! `generate` makes a seeded sequence of calls and their callers, `subject` carries them out,
//! `accepted` has the differences that `golden/differences_auth.md` explains. `unexecuted` explains
//! refusals of what etcd does not check: it queries etcd for the right to each part.

pub mod accepted;
pub mod call;
pub mod generate;
pub mod run;
pub mod subject;
mod unexecuted;
