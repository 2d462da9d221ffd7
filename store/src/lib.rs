//! The shell around `keelson-core`: log, engines, peers, driver, and the edges clients speak to.
//! (being built)

pub mod config;
pub mod listen;
pub mod version;

pub use config::Config;
