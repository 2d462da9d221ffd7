//! HashKV of a file, equal to that of a member with the same history.

use std::collections::HashMap;

use bytes::Bytes;
use keelson_core::state::RowKey;
use keelson_proto::mvccpb::KeyValue;
use prost::Message;

use super::buckets;
use super::input::{InputError, SnapshotFile};

/// A hash and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHash {
    /// CRC-32C over the word `key`, then key and content of each row.
    pub hash: u32,
    /// The last revision that is included.
    pub hash_revision: i64,
    /// The compaction of the file; -1 for none.
    pub compact_revision: i64,
}

/// Hashes the pairs up to a revision; 0 is the newest. Memory: every key once, without the values.
///
/// # Errors
/// Those of the file; a revision that is compacted, or not in it.
pub fn hash_kv(file: &SnapshotFile, revision: i64) -> Result<FileHash, InputError> {
    let compacted = compacted(file)?;
    let rows = NewestRows::read(file, revision, compacted)?;
    if revision != 0 && (revision < compacted || rows.newest < revision) {
        let what = format!(
            "revision {revision} is not in it: it has {compacted} to {}",
            rows.newest
        );
        return Err(file.wrong(buckets::KEY, what));
    }
    let upto = if revision == 0 { rows.newest } else { revision };
    // As in etcd: without a live key, superseded rows are not skipped.
    let kept = if rows.has_live {
        &rows.at_revision
    } else {
        &rows.at_compaction
    };
    let mut hash = crc32c::crc32c(buckets::KEY.as_bytes());
    file.rows(buckets::KEY, |row| {
        let (name, pair) = decoded(file, &row)?;
        let is_in = name.main <= upto
            && (compacted < name.main
                || kept
                    .get(&pair.key)
                    .is_some_and(|kept| *kept == name && !name.tombstone));
        if is_in {
            hash = crc32c::crc32c_append(hash, &row.key);
            hash = crc32c::crc32c_append(hash, &row.value);
        }
        Ok::<_, InputError>(())
    })?;
    Ok(FileHash {
        hash,
        hash_revision: upto,
        compact_revision: compacted,
    })
}

/// The newest row of each key.
struct NewestRows {
    at_revision: HashMap<Bytes, RowKey>,
    at_compaction: HashMap<Bytes, RowKey>,
    has_live: bool,
    newest: i64,
}

impl NewestRows {
    fn read(file: &SnapshotFile, revision: i64, compacted: i64) -> Result<NewestRows, InputError> {
        let mut rows = NewestRows {
            at_revision: HashMap::new(),
            at_compaction: HashMap::new(),
            has_live: false,
            newest: 1,
        };
        file.rows(buckets::KEY, |row| {
            let (name, pair) = decoded(file, &row)?;
            rows.newest = rows.newest.max(name.main);
            if revision == 0 || name.main <= revision {
                // A copy: the key would keep the whole page in memory.
                let key = Bytes::copy_from_slice(&pair.key);
                if name.main <= compacted {
                    rows.at_compaction.insert(key.clone(), name);
                }
                rows.at_revision.insert(key, name);
            }
            Ok::<_, InputError>(())
        })?;
        rows.has_live = rows.at_revision.values().any(|name| !name.tombstone);
        Ok(rows)
    }
}

fn decoded(file: &SnapshotFile, row: &keelson_bolt::Row) -> Result<(RowKey, KeyValue), InputError> {
    let name = RowKey::decode(&row.key);
    let name = name.ok_or_else(|| file.wrong(buckets::KEY, "a key that is no revision"))?;
    let pair = KeyValue::decode(row.value.clone());
    Ok((name, pair.map_err(|error| file.wrong(buckets::KEY, error))?))
}

/// The compaction of a file; -1 for none.
pub(crate) fn compacted(file: &SnapshotFile) -> Result<i64, InputError> {
    let mut newest = -1;
    for key in [buckets::SCHEDULED_COMPACT, buckets::FINISHED_COMPACT] {
        let row = file.row(buckets::META, key)?;
        if let Some(revision) = row.and_then(|row| RowKey::decode(&row)) {
            newest = newest.max(revision.main);
        }
    }
    Ok(newest)
}
