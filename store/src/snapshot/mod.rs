//! Snapshots for operators: a capture of the state as a file that etcd's tools restore, and the way
//! back into a data directory.

pub(crate) mod buckets;
mod capture;
pub(crate) mod directory;
pub(crate) mod dropped;
mod export;
mod file;
pub(crate) mod hash_kv;
mod input;
pub(crate) mod restore;
mod status;
mod stream;

pub use dropped::DroppedMember;
pub use export::{ExportError, Exported, Stopped, export, of_stopped};
pub use file::FileError;
pub use hash_kv::{FileHash, hash_kv};
pub use input::{InputError, SnapshotFile};
pub use restore::{RestoreError, RestoreOptions, Restored, check_unused, restore, restore_standby};
pub use status::{SnapshotStatus, status};
pub(crate) use stream::SNAPSHOTS_MAX;
