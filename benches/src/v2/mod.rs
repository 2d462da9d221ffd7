//! The v2 API over HTTP/1.1: GET, quorum GET and PUT of one key, on fresh servers in turn.
//!
//! The load is made by `wrk` where it is on PATH, because it costs the least, else by our own
//! closed loop.

pub mod plan;
pub mod report;
pub mod run;
pub mod wrk;

pub use run::run;
