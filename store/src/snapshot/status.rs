//! What etcdutl's `snapshot status` prints of a file.

use keelson_core::state::RowKey;

use super::buckets;
use super::input::{InputError, SnapshotFile};

/// The contents of a snapshot in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// CRC-32C over the name of every bucket, and key and value of its rows.
    pub hash: u32,
    /// The newest revision of its rows.
    pub revision: i64,
    /// The number of rows of all buckets.
    pub total_keys: u64,
    /// The size of the database, in bytes.
    pub total_bytes: u64,
}

/// Reads every row.
///
/// # Errors
/// Those of the file.
pub fn status(file: &SnapshotFile) -> Result<SnapshotStatus, InputError> {
    let mut status = SnapshotStatus {
        hash: 0,
        revision: 0,
        total_keys: 0,
        total_bytes: file.bytes(),
    };
    let mut names = file.buckets()?;
    while let Some(bucket) = names.next().map_err(|error| file.bolt(error))? {
        let mut add = |bytes: &[u8]| status.hash = crc32c::crc32c_append(status.hash, bytes);
        add(&bucket.key);
        let mut rows = file.open_bucket(&bucket)?;
        let is_key = bucket.key == buckets::KEY;
        while let Some(row) = rows.next().map_err(|error| file.bolt(error))? {
            add(&row.key);
            add(&row.value);
            status.total_keys += 1;
            if is_key && let Some(key) = RowKey::decode(&row.key) {
                status.revision = status.revision.max(key.main);
            }
        }
    }
    Ok(status)
}
