//! HashKV: a checksum over the pairs, equal on every member and equal to etcd's.

use super::error::Error;
use super::kept::Kept;
use super::keys::KeyRange;
use super::scan::{Scan, Step};
use super::shared::Shared;
use std::sync::Arc;

/// Rows per read of the engine.
const ROWS_PER_STEP: usize = 1000;

/// A hash and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over the word `key`, then key and content of each row.
    pub hash: u32,
    /// The compaction that the hash takes into account.
    pub compact_revision: i64,
    /// The last revision that is included.
    pub hash_revision: i64,
    /// The store's revision, for the header.
    pub current_revision: i64,
}

/// Hashes everything up to a revision; 0 is the current one. Rows that compaction may delete do not
/// count, whether they are deleted yet or not. So of the rows up to the compaction, only those
/// count that a compaction at the hashed revision would keep.
pub(super) fn hash_kv(shared: &Arc<Shared>, revision: i64) -> Result<HashKv, Error> {
    let _hold = shared.hold();
    // In this order: the rows of a revision are visible before its number is.
    let compacted = shared.compacted();
    let current = shared.revision();
    if revision > 0 && revision < compacted {
        return Err(Error::Compacted);
    }
    if revision > current {
        return Err(Error::FutureRev);
    }
    let upto = if revision == 0 { current } else { revision };
    let kept = kept(shared, compacted, upto);
    let mut hash = crc32c::crc32c(b"key");
    let mut scan = Scan::new(upto.max(0)); // Below 0 there is nothing, as etcd has it.
    let mut more = true;
    while more {
        let mut budget = ROWS_PER_STEP;
        more = scan.step(shared, &mut |key, row| {
            if kept.contains(shared, key, &row) {
                let (bytes, len) = key.encode();
                hash = crc32c::crc32c_append(hash, &bytes[..len]);
                hash = crc32c::crc32c_append(hash, &row);
            }
            budget -= 1;
            match budget {
                0 => Step::Break(()),
                _ => Step::Continue(()),
            }
        })?;
    }
    Ok(HashKv {
        hash,
        compact_revision: compacted,
        hash_revision: upto,
        current_revision: current,
    })
}

/// The filter for the rows. If no key is live at the hashed revision, etcd does not skip superseded
/// rows. It then hashes the rows that its compaction has kept: the newest of each key at the
/// compaction.
fn kept(shared: &Shared, compacted: i64, upto: i64) -> Kept {
    let mut empty = true;
    shared.index.visit(KeyRange::From(b""), upto, |_, _| {
        empty = false;
        false
    });
    Kept::new(compacted, if empty { compacted } else { upto })
}
