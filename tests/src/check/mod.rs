//! The checkers: is there one order of all operations that a single server could have followed?
//!
//! `replay` is the first opinion: linear time, because every response carries its revision. `wgl`
//! is the second: it searches, looks at values only, and so cannot be fooled by wrong revisions.

pub mod register;
pub mod replay;
pub mod wgl;
