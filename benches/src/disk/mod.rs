//! A slow disk: reads and puts of a cluster whose members' fsyncs take longer.

pub mod load;
pub mod plan;
pub mod report;
pub mod run;
pub mod slow;

pub use run::run;
