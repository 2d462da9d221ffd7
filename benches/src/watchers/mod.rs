//! Thousands of v2 watches on one directory: what one costs, and how soon all have an event.

pub mod crowd;
pub mod outcome;
pub mod plan;
pub mod report;
pub mod run;

pub use run::run;
