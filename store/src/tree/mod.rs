//! The v2 tree at work: reads from local state, changes through the log, watches, and the end of
//! what has a time to live. The tree itself is in `keelson_core::tree`.

mod hub;

pub use hub::{History, Hub, Watch, Wish};
