//! v3 watchers while keys are put: how soon events arrive, what they cost, and what puts cost
//! beside them.

pub mod outcome;
pub mod plan;
pub mod puts;
pub mod report;
pub mod run;
pub mod streams;

pub use run::run;
