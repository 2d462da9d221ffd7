//! A small HTTP/1.1 client that sends exactly the bytes it is told to, and shows all that comes
//! back.
//!
//! A real client library would tidy up what the tests want untidy: `//` and `%zz` in paths, bodies
//! with a wrong type, headers without an end.

mod connection;
mod message;
mod parser;

pub use connection::{Client, Open, PATIENCE};
pub use message::{Reply, Request};
pub use parser::{Item, ReplyParser};
