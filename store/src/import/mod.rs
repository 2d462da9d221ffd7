//! The data directory of a stopped etcd, made into one of ours: the database of its v3 API, the v2
//! store of its last snapshot, and the committed entries of its log above both.

mod apply;
mod log;
mod messages;
mod state;
mod tail;
#[cfg(test)]
mod tests;
mod v2;

pub use state::{ImportError, Imported, import};
pub use tail::Unread;
