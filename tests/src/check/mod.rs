//! The checkers: is there one order of all operations that a single server could have followed?
//!
//! `replay` is the first opinion: linear time, because every response carries its revision. `wgl`
//! is the second: it searches, looks at values only, and so cannot be fooled by wrong revisions.
//! `tree` is both for the v2 API.

pub mod register;
pub mod replay;
pub mod tree;
pub mod wgl;
