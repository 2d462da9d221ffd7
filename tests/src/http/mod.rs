//! A small HTTP/1.1 client that sends exactly the given bytes, and shows everything that comes
//! back.
//!
//! A client library would correct what the tests need uncorrected: `//` and `%zz` in paths, bodies
//! with a wrong type, headers without an end.

mod connection;
mod message;
mod parser;

pub use connection::{Client, Open, PATIENCE};
pub use message::{Reply, Request};
pub use parser::{Item, ReplyParser};
