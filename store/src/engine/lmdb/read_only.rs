//! Reads LMDB's file without LMDB, which needs to write beside it: every page and every row.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use keelson_core::engine::{Engine, EngineError, EngineSize, Table, WriteBatch};

use super::file::{
    DEPTH_MAX, FLAG_BRANCH, FLAG_LEAF, FLAG_OVERFLOW, NO_PAGE, NODE_OVERFLOW, NODE_TREE,
    PAGE_HEADER_BYTES, child, newest_meta, u16_at, u32_at, u64_at,
};
use super::{LONG_KEY_BYTES, visit_long};
use crate::disk::ReadOnlyFile;

/// The bytes of a tree's description in a node.
const TREE_BYTES: usize = 48;

/// An engine that is only read. A range is always read from its table's begin on.
pub(crate) struct ReadOnlyLmdb {
    file: ReadOnlyFile,
    page_bytes: usize,
    pages: u64,
    /// The roots of the free list and of the list of tables.
    roots: [u64; 2],
    /// The root of each table and the number of its rows.
    tables: Vec<(u64, u64)>,
}

/// What a whole file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LmdbCounts {
    /// Pages of trees, and of large values.
    pub(crate) pages: u64,
    /// Rows of tables; rows of long keys count once for all that share one.
    pub(crate) rows: u64,
}

impl ReadOnlyLmdb {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, or has no tables.
    pub(crate) fn open(path: &Path) -> Result<ReadOnlyLmdb, EngineError> {
        let fail =
            |error: &dyn std::fmt::Display| EngineError(format!("{}: {error}", path.display()));
        let file = ReadOnlyFile::open(path).map_err(|error| fail(&error))?;
        let size = file.size_bytes().map_err(|error| fail(&error))?;
        let meta = newest_meta(&file).map_err(|error| fail(&error))?;
        let mut engine = ReadOnlyLmdb {
            file,
            page_bytes: meta.page_bytes,
            pages: size / meta.page_bytes as u64,
            roots: meta.roots,
            tables: vec![(NO_PAGE, 0); Table::ALL.len()],
        };
        let mut found = Vec::new();
        engine
            .walk(meta.roots[1], &mut BTreeSet::new(), 0, &mut |key, value| {
                let number = std::str::from_utf8(key)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let tree =
                    (value.len() == TREE_BYTES).then(|| (u64_at(value, 40), u64_at(value, 32)));
                found.extend(number.zip(tree));
                true
            })
            .map_err(|error| fail(&error.0))?;
        for (number, tree) in found {
            let table: usize = number;
            if let (Some(place), (Some(root), Some(rows))) = (engine.tables.get_mut(table), tree) {
                *place = (root, rows);
            }
        }
        Ok(engine)
    }

    /// Reads every page of every tree.
    ///
    /// # Errors
    /// What is damaged: a page that is not what it should be, belongs to two trees, or has keys
    /// that do not rise; a table with another number of rows than it states.
    pub(crate) fn check(&self) -> Result<LmdbCounts, EngineError> {
        let mut seen = BTreeSet::new();
        let mut counts = LmdbCounts::default();
        let main = |_: &[u8], _: &[u8]| true;
        for root in self.roots {
            self.walk(root, &mut seen, 0, &mut { main })?;
        }
        for (table, (root, stated)) in Table::ALL.iter().zip(&self.tables) {
            let mut rows = 0_u64;
            let mut last: Option<Vec<u8>> = None;
            let mut falls = None;
            self.walk(*root, &mut seen, 0, &mut |key, _| {
                rows += 1;
                if last.as_deref().is_some_and(|last| key <= last) {
                    falls = Some(key.escape_ascii().to_string());
                }
                last = Some(key.to_vec());
                falls.is_none()
            })?;
            if let Some(key) = falls {
                return Err(EngineError(format!("{table:?}: key {key} is out of order")));
            }
            if rows != *stated {
                let text = format!("{table:?} has {rows} rows and states {stated}");
                return Err(EngineError(text));
            }
            counts.rows += rows;
        }
        counts.pages = seen.len() as u64;
        Ok(counts)
    }

    /// Calls `visit` for each row of a tree in order, until it returns false.
    fn walk(
        &self,
        page: u64,
        seen: &mut BTreeSet<u64>,
        depth: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, EngineError> {
        if page == NO_PAGE {
            return Ok(true);
        }
        if !seen.insert(page) || DEPTH_MAX < depth {
            return Err(EngineError(format!("page {page} belongs to two places")));
        }
        let bytes = self.page(page, 1)?;
        let wrong = || EngineError(format!("page {page} is not what it should be"));
        let flags = u16_at(&bytes, 10).unwrap_or_default();
        if flags & (FLAG_BRANCH | FLAG_LEAF) == 0 {
            return Err(wrong());
        }
        let listed = u16_at(&bytes, 12).map(usize::from).ok_or_else(wrong)?;
        for entry in (PAGE_HEADER_BYTES..listed).step_by(2) {
            let node = u16_at(&bytes, entry).map(usize::from).ok_or_else(wrong)?;
            let node = bytes.get(node..).ok_or_else(wrong)?;
            let more = match flags & FLAG_BRANCH != 0 {
                true => self.walk(child(node).ok_or_else(wrong)?, seen, depth + 1, visit)?,
                false => self.leaf_node(node, seen, visit).ok_or_else(wrong)??,
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn leaf_node(
        &self,
        node: &[u8],
        seen: &mut BTreeSet<u64>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Option<Result<bool, EngineError>> {
        let (flags, key_bytes) = (u16_at(node, 4)?, usize::from(u16_at(node, 6)?));
        let size = u32_at(node, 0)? as usize;
        let key = node.get(8..8 + key_bytes)?;
        let data = node.get(8 + key_bytes..)?;
        if flags & NODE_OVERFLOW == 0 {
            let bytes = if flags & NODE_TREE != 0 {
                TREE_BYTES
            } else {
                size
            };
            return Some(Ok(visit(key, data.get(..bytes)?)));
        }
        Some(
            self.large(u64_at(data, 0)?, size, seen)
                .map(|value| visit(key, &value)),
        )
    }

    /// A value that has pages of its own.
    fn large(
        &self,
        page: u64,
        size: usize,
        seen: &mut BTreeSet<u64>,
    ) -> Result<Vec<u8>, EngineError> {
        let count = (size + PAGE_HEADER_BYTES).div_ceil(self.page_bytes);
        let mut bytes = self.page(page, count)?;
        let flags = u16_at(&bytes, 10).unwrap_or_default();
        let stated = u32_at(&bytes, 12).unwrap_or_default() as usize;
        let is_new = (page..page + count as u64).all(|page| seen.insert(page));
        if flags & FLAG_OVERFLOW == 0 || stated < count || !is_new {
            return Err(EngineError(format!("the value at page {page} is damaged")));
        }
        bytes.drain(..PAGE_HEADER_BYTES);
        bytes.truncate(size);
        Ok(bytes)
    }

    fn page(&self, page: u64, count: usize) -> Result<Vec<u8>, EngineError> {
        if self.pages < page.saturating_add(count as u64) {
            return Err(EngineError(format!(
                "page {page} lies behind the end of the file"
            )));
        }
        let mut bytes = vec![0; count * self.page_bytes];
        let read = self
            .file
            .read_exact_at(page * self.page_bytes as u64, &mut bytes);
        read.map_err(|error| EngineError(format!("page {page}: {error}")))?;
        match u64_at(&bytes, 0) == Some(page) {
            true => Ok(bytes),
            false => Err(EngineError(format!("page {page} is not what it should be"))),
        }
    }
}

impl Engine for ReadOnlyLmdb {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let mut found = None;
        let only = Bound::Included(key);
        self.range(table, only, only, &mut |_, value| {
            found = Some(Bytes::copy_from_slice(value));
            false
        })?;
        Ok(found)
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let (root, _) = self.tables[usize::from(table as u8)];
        let is_before = |key: &[u8]| match from {
            Bound::Included(from) => key < from,
            Bound::Excluded(from) => key <= from,
            Bound::Unbounded => false,
        };
        let is_behind = |key: &[u8]| match to {
            Bound::Included(to) => to < key,
            Bound::Excluded(to) => to <= key,
            Bound::Unbounded => false,
        };
        let mut failed = None;
        self.walk(root, &mut BTreeSet::new(), 0, &mut |key, value| {
            if key.len() < LONG_KEY_BYTES {
                return is_before(key) || (!is_behind(key) && visit(key, value));
            }
            match visit_long(key, value, (from, to), visit) {
                Ok(more) => more,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn write(&self, _: &WriteBatch) -> Result<(), EngineError> {
        Err(EngineError("it is only read".to_owned()))
    }

    fn size(&self) -> EngineSize {
        EngineSize::default()
    }
}
