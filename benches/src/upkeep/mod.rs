//! What an operator has a member do - a snapshot, a compaction, a defragmentation - and what the
//! puts of its clients notice of it.

pub mod clients;
pub mod outcome;
pub mod plan;
pub mod report;
pub mod run;
pub mod works;

pub use run::run;
