//! The v2 tree of a running member: reads from local state, changes through the log, watches, and
//! expiry. The tree itself is in `keelson_core::tree`.

mod backend;
pub(crate) mod expirer;
mod hub;
mod requests;

pub use hub::{History, Hub, Watch, WatchSpec};
pub use keelson_edge::v2::{ChangeError, WatchEnd};
