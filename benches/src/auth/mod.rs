//! What auth costs: logins with a known password, and puts with auth enabled and without.

pub mod load;
pub mod plan;
pub mod report;
pub mod run;

pub use run::run;
