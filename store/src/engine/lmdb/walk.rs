//! The walk over the trees in LMDB's file, without LMDB. Every page that it visits is inside the
//! file, has the number and kind that it should have, and belongs to one place.

use std::collections::BTreeSet;

use super::file::{Meta, PAGE_HEADER_BYTES, u16_at, u32_at, u64_at};
use crate::disk::DiskFile;

const FLAG_BRANCH: u16 = 0x01;
const FLAG_LEAF: u16 = 0x02;
const FLAG_OVERFLOW: u16 = 0x04;
const NODE_OVERFLOW: u16 = 0x01;
const NODE_TREE: u16 = 0x02;
/// The root of an empty tree.
pub(super) const NO_PAGE: u64 = u64::MAX;
/// LMDB's own limit on the depth of a tree.
const DEPTH_MAX: u32 = 32;
/// The bytes of a tree's description in a node.
const TREE_BYTES: usize = 48;

/// What a leaf holds.
pub(super) enum Found<'a> {
    /// A row whose value is beside its key.
    Row {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A row whose value has pages of its own.
    Large {
        /// Its key.
        key: &'a [u8],
        /// The first page of the value.
        page: u64,
        /// The size of the value.
        bytes: usize,
    },
    /// A tree in a tree.
    Tree {
        /// Its name.
        key: &'a [u8],
        /// Its root.
        root: u64,
        /// The number of rows that it states.
        rows: u64,
    },
}

/// Called for each node of the leaves, in order, until it returns false.
type Visit<'v, 'f, F> = &'v mut dyn FnMut(&mut Walk<'f, F>, Found<'_>) -> Result<bool, String>;

/// A walk; one for all trees of which no two may share a page.
pub(super) struct Walk<'f, F> {
    file: &'f F,
    page_bytes: usize,
    pages: u64,
    seen: BTreeSet<u64>,
}

impl<'f, F: DiskFile> Walk<'f, F> {
    /// A walk in a file of that many pages.
    pub(super) fn new(file: &'f F, meta: &Meta, pages: u64) -> Walk<'f, F> {
        Walk {
            file,
            page_bytes: meta.page_bytes,
            pages,
            seen: BTreeSet::new(),
        }
    }

    /// The number of pages that were visited.
    pub(super) fn seen(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Visits the nodes in the leaves of a tree. Returns whether `visit` has seen all.
    ///
    /// # Errors
    /// What is damaged, and those of `visit`.
    pub(super) fn tree(&mut self, root: u64, visit: Visit<'_, 'f, F>) -> Result<bool, String> {
        match root {
            NO_PAGE => Ok(true),
            root => self.subtree(root, 0, visit),
        }
    }

    fn subtree(&mut self, page: u64, depth: u32, visit: Visit<'_, 'f, F>) -> Result<bool, String> {
        self.take(page, 1)?;
        let bytes = self.read(page, 1)?;
        let damaged = || damaged(page);
        let flags = u16_at(&bytes, 10).unwrap_or_default();
        let listed = u16_at(&bytes, 12).map(usize::from).ok_or_else(damaged)?;
        if DEPTH_MAX < depth || flags & (FLAG_BRANCH | FLAG_LEAF) == 0 {
            return Err(damaged());
        }
        for entry in (PAGE_HEADER_BYTES..listed).step_by(2) {
            let node = u16_at(&bytes, entry).map(usize::from).ok_or_else(damaged)?;
            let node = bytes.get(node..).ok_or_else(damaged)?;
            let more = match flags & FLAG_BRANCH != 0 {
                true => self.subtree(child(node).ok_or_else(damaged)?, depth + 1, visit)?,
                false => visit(self, found(node).ok_or_else(damaged)?)?,
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a value that has pages of its own.
    ///
    /// # Errors
    /// It is damaged.
    pub(super) fn large(&mut self, page: u64, size: usize) -> Result<Vec<u8>, String> {
        let count = (size + PAGE_HEADER_BYTES).div_ceil(self.page_bytes);
        if self.check_large(page)? < count as u64 {
            return Err(format!("the value at page {page} is cut short"));
        }
        self.take(page, count as u64)?;
        let mut bytes = self.read(page, count)?;
        bytes.drain(..PAGE_HEADER_BYTES);
        bytes.truncate(size);
        Ok(bytes)
    }

    /// Checks the first page of such a value. Returns the number of its pages.
    ///
    /// # Errors
    /// It is damaged, or is not whole in the file.
    pub(super) fn check_large(&self, page: u64) -> Result<u64, String> {
        let bytes = self.read(page, 1)?;
        let flags = u16_at(&bytes, 10).unwrap_or_default();
        let pages = u32_at(&bytes, 12).map(u64::from).unwrap_or_default();
        match flags & FLAG_OVERFLOW != 0 && page.saturating_add(pages) <= self.pages {
            true => Ok(pages),
            false => Err(format!("the value at page {page} is cut short")),
        }
    }

    /// Notes that pages belong to this place.
    fn take(&mut self, page: u64, count: u64) -> Result<(), String> {
        match (page..page.saturating_add(count)).all(|page| self.seen.insert(page)) {
            true => Ok(()),
            false => Err(format!("page {page} belongs to two places")),
        }
    }

    fn read(&self, page: u64, count: usize) -> Result<Vec<u8>, String> {
        if self.pages < page.saturating_add(count as u64) {
            return Err(format!("page {page} lies behind the end of the file"));
        }
        let mut bytes = vec![0; count * self.page_bytes];
        let read = self.file.read_at(page * self.page_bytes as u64, &mut bytes);
        let read = read.map_err(|error| format!("page {page}: {error}"))?;
        match read == bytes.len() && u64_at(&bytes, 0) == Some(page) {
            true => Ok(bytes),
            false => Err(damaged(page)),
        }
    }
}

fn damaged(page: u64) -> String {
    format!("page {page} is not what it should be")
}

/// The 48-bit page number in a node of a branch page.
fn child(node: &[u8]) -> Option<u64> {
    let word = |at| u16_at(node, at).map(u64::from);
    Some(word(0)? | word(2)? << 16 | word(4)? << 32)
}

/// A node of a leaf.
fn found(node: &[u8]) -> Option<Found<'_>> {
    let (flags, key_bytes) = (u16_at(node, 4)?, usize::from(u16_at(node, 6)?));
    let bytes = u32_at(node, 0)? as usize;
    let key = node.get(8..8 + key_bytes)?;
    let data = node.get(8 + key_bytes..)?;
    Some(if flags & NODE_TREE != 0 {
        let tree = data.get(..TREE_BYTES)?;
        let (root, rows) = (u64_at(tree, 40)?, u64_at(tree, 32)?);
        Found::Tree { key, root, rows }
    } else if flags & NODE_OVERFLOW != 0 {
        let page = u64_at(data, 0)?;
        Found::Large { key, page, bytes }
    } else {
        let value = data.get(..bytes)?;
        Found::Row { key, value }
    })
}
