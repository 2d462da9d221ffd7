//! Work on very many keys or leases, and what the puts of another client notice of it.

pub mod calls;
pub mod leases;
pub mod outcome;
pub mod plan;
pub mod reads;
pub mod report;
pub mod run;

pub use run::run;
