//! (being built)

pub mod edge;
mod error;

pub use error::Error;
