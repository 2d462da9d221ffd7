//! The checkers: whether there is one order of all operations that a single server could have
//! followed.
//!
//! `replay` is the first method: linear time, because every response carries its revision. `wgl` is
//! the second: it searches, uses values only, and so cannot be misled by wrong revisions. `tree`
//! has both for the v2 API. `watch` checks what watchers of the v3 API are sent.

pub mod register;
pub mod replay;
pub mod tree;
pub mod watch;
pub mod wgl;
