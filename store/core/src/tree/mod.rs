//! The v2 tree: files and directories with a time to live, one index for all of it, and the last
//! thousand events.
//!
//! Paths are whole: "/1/foo" is what clients of the keys API call "/foo", "/2/..." is the auth API's.
//! Time is an argument everywhere; the same requests give the same tree on every member.

mod error;
mod event;

pub use error::{ErrorCode, TreeError};
pub use event::{Action, Event, Node};
