//! The v2 tree at work: reads from local state, changes through the log, watches, and the end of
//! what has a time to live. The tree itself is in `keelson_core::tree`.

mod backend;
pub(crate) mod expirer;
mod hub;
mod requests;

pub use hub::{End, History, Hub, Watch, Wish};
pub use requests::ChangeError;
