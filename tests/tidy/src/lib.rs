//! The house rules that neither the compiler nor clippy checks, as tests over the workspace's text.
//!
//! `cargo test -p keelson-tidy` takes seconds: it reads files and builds nothing else. Each rule is
//! a function from text to violations, one a module, with bad examples as its unit tests.
//! Exceptions stand in `exceptions.rs`, by name and with a reason; an exception that is not needed
//! fails, too.

pub mod columns;
pub mod dependencies;
pub mod errors;
pub mod exceptions;
pub mod files;
pub mod flags;
pub mod functions;
pub mod headers;
pub mod links;
pub mod names;
pub mod source;
pub mod words;
