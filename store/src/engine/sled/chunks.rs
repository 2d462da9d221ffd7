//! The key table in sled: up to 16 consecutive rows, or 8 KiB, in one sled row.
//!
//! The key of a chunk is at or before its first row's key and after the previous chunk's rows. So
//! the chunk of a key is the last one that does not begin after it.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use keelson_core::engine::EngineError;

use super::super::pack;
use super::explain;

/// Enough rows to amortize sled's cost of a row; more would make reads copy more.
const CHUNK_ROWS: usize = 16;
const CHUNK_BYTES: usize = 8 << 10;

/// A key, and its new value, or `None` to delete it.
pub(super) type RowChange<'a> = (&'a [u8], Option<&'a [u8]>);

/// The key table.
pub(super) struct Chunks {
    tree: ::sled::Tree,
}

impl Chunks {
    pub(super) fn new(tree: ::sled::Tree) -> Chunks {
        Chunks { tree }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let Some((_, packed)) = self.chunk_of(key)? else {
            return Ok(None);
        };
        let rows = pack::rows(&packed)?;
        let found = rows.iter().find(|(known, _)| *known == key);
        Ok(found.map(|(_, value)| Bytes::copy_from_slice(value)))
    }

    pub(super) fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        // The first chunk may begin before the bound.
        let first = match from {
            Bound::Included(key) | Bound::Excluded(key) => self.chunk_of(key)?,
            Bound::Unbounded => None,
        };
        let first = first.map_or(Bound::Unbounded, |(key, _)| Bound::Included(key));
        let bounds = (from, to);
        for chunk in self
            .tree
            .range::<::sled::IVec, _>((first, Bound::Unbounded))
        {
            let (_, packed) = chunk.map_err(explain)?;
            for (key, value) in pack::rows(&packed)? {
                if !RangeBounds::<[u8]>::contains(&(Bound::Unbounded, to), key) {
                    return Ok(());
                }
                if RangeBounds::<[u8]>::contains(&bounds, key) && !visit(key, value) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Appends rows after all others.
    pub(super) fn append(&self, rows: &[pack::Row<'_>]) -> Result<(), EngineError> {
        let Some((first, _)) = rows.first() else {
            return Ok(());
        };
        let last = self.tree.last().map_err(explain)?;
        let (mut start, mut packed) = match last {
            Some((start, packed)) => (start.to_vec(), packed.to_vec()),
            None => (first.to_vec(), Vec::new()),
        };
        let mut count = pack::rows(&packed)?.len();
        for (key, value) in rows {
            let size = packed.len() + key.len() + value.len() + pack::ROW_BYTES;
            if 0 < count && (CHUNK_ROWS <= count || CHUNK_BYTES < size) {
                self.tree.insert(&start, &packed[..]).map_err(explain)?;
                (start, count) = (key.to_vec(), 0);
                packed.clear();
            }
            pack::push(&mut packed, key, value);
            count += 1;
        }
        self.tree.insert(&start, packed).map_err(explain)?;
        Ok(())
    }

    /// Puts or deletes rows among the others; the changes are in ascending order. Each chunk is
    /// written once.
    pub(super) fn change(&self, mut changes: &[RowChange<'_>]) -> Result<(), EngineError> {
        while let Some((key, value)) = changes.first() {
            let (start, packed) = match (self.chunk_of(key)?, value) {
                (Some((start, packed)), _) => (start, packed),
                (None, Some(_)) => ((*key).into(), ::sled::IVec::default()),
                (None, None) => {
                    changes = &changes[1..];
                    continue;
                }
            };
            let next = self.tree.get_gt(&start).map_err(explain)?;
            let inside = match next {
                Some((next, _)) => changes.partition_point(|(key, _)| *key < &next[..]),
                None => changes.len(),
            };
            let (now, later) = changes.split_at(inside);
            let changed = merge(&packed, now)?;
            match changed.is_empty() {
                true => self.tree.remove(&start).map_err(explain)?,
                false => self.tree.insert(&start, changed).map_err(explain)?,
            };
            changes = later;
        }
        Ok(())
    }

    /// Removes every row after `end`; all of them for the empty key.
    pub(super) fn remove_behind(&self, end: &[u8]) -> Result<(), EngineError> {
        while let Some((start, packed)) = self.tree.last().map_err(explain)? {
            let rows = pack::rows(&packed)?;
            let mut kept = Vec::new();
            for (key, value) in rows.iter().filter(|(key, _)| *key <= end) {
                pack::push(&mut kept, key, value);
            }
            if kept.len() == packed.len() {
                break;
            }
            if !kept.is_empty() {
                self.tree.insert(&start, kept).map_err(explain)?;
                break;
            }
            self.tree.remove(&start).map_err(explain)?;
        }
        Ok(())
    }

    fn chunk_of(&self, key: &[u8]) -> Result<Option<(::sled::IVec, ::sled::IVec)>, EngineError> {
        let chunk = self.tree.range::<&[u8], _>(..=key).next_back();
        chunk.transpose().map_err(explain)
    }
}

/// Applies the changes to the packed rows; both are in ascending order.
fn merge(packed: &[u8], changes: &[RowChange<'_>]) -> Result<Vec<u8>, EngineError> {
    let mut merged = Vec::with_capacity(packed.len());
    let mut rows = pack::rows(packed)?.into_iter().peekable();
    for (key, value) in changes {
        while let Some((known, value)) = rows.next_if(|(known, _)| known < key) {
            pack::push(&mut merged, known, value);
        }
        rows.next_if(|(known, _)| known == key);
        if let Some(value) = value {
            pack::push(&mut merged, key, value);
        }
    }
    for (known, value) in rows {
        pack::push(&mut merged, known, value);
    }
    Ok(merged)
}
