//! The shell around `keelson-core`: log, engines, peers, driver, and the edges clients speak to.

pub mod config;
pub mod edge;
mod error;
pub mod listen;
pub mod version;

pub use config::Config;
pub use error::Error;
