//! What a member and a proxy hold: idle, with connections that watch, and with keys.

pub mod plan;
pub mod report;
pub mod run;

pub use run::run;
