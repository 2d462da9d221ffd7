//! Reads LMDB's file without LMDB, which needs to write beside it: every page and every row.

use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use keelson_core::engine::{Engine, EngineError, EngineSize, Table, WriteBatch};

use super::file::{Meta, newest_meta};
use super::walk::{Found, NO_PAGE, Walk};
use super::{LONG_KEY_BYTES, visit_long};
use crate::disk::ReadOnlyFile;

/// An engine that is only read. A range is always read from its table's begin on.
pub(crate) struct ReadOnlyLmdb {
    file: ReadOnlyFile,
    meta: Meta,
    pages: u64,
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
            pages: size / meta.page_bytes as u64,
            file,
            meta,
            tables: vec![(NO_PAGE, 0); Table::ALL.len()],
        };
        let mut found: Vec<(usize, (u64, u64))> = Vec::new();
        let list = engine.meta.roots[1];
        let walked = engine.walk().tree(list, &mut |_, node| {
            if let Found::Tree { key, root, rows } = node {
                let number = std::str::from_utf8(key).ok();
                let number = number.and_then(|text| text.parse().ok());
                found.extend(number.map(|number| (number, (root, rows))));
            }
            Ok(true)
        });
        walked.map_err(|error| fail(&error))?;
        for (table, tree) in found {
            if let Some(place) = engine.tables.get_mut(table) {
                *place = tree;
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
        let mut walk = self.walk();
        let mut counts = LmdbCounts::default();
        for root in self.meta.roots {
            self.rows(&mut walk, root, &mut |_, _| true)?;
        }
        for (table, (root, stated)) in Table::ALL.iter().zip(&self.tables) {
            let mut rows = 0_u64;
            let mut last: Option<Vec<u8>> = None;
            let mut falls = None;
            self.rows(&mut walk, *root, &mut |key, _| {
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
        counts.pages = walk.seen();
        Ok(counts)
    }

    /// Calls `visit` for each row of a tree in order, until it returns false.
    fn rows(
        &self,
        walk: &mut Walk<'_, ReadOnlyFile>,
        root: u64,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let walked = walk.tree(root, &mut |walk, found| match found {
            Found::Row { key, value } => Ok(visit(key, value)),
            Found::Large { key, page, bytes } => Ok(visit(key, &walk.large(page, bytes)?)),
            Found::Tree { .. } => Ok(true),
        });
        walked.map(|_| ()).map_err(EngineError)
    }

    fn walk(&self) -> Walk<'_, ReadOnlyFile> {
        Walk::new(&self.file, &self.meta, self.pages)
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
        self.rows(&mut self.walk(), root, &mut |key, value| {
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
