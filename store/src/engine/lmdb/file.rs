//! Checks LMDB's file before LMDB opens it: an access after the end of a mapped file is a crash
//! of the process, not an error.
//!
//! Layout of LMDB 0.9 on 64-bit machines, little endian. A page begins with its number (8 bytes), 2
//! unused bytes and flags (2). Then follow the end of its node list (2) and the start of its nodes
//! (2), or its length in pages (4). Pages 0 and 1 hold the two metas; the one with the higher
//! transaction id is valid.

use std::io;
use std::path::Path;

use keelson_core::engine::EngineError;

use crate::disk::{self, Disk, DiskFile, RealDisk, RealFile};

pub(super) const REMEDY: &str = "move the member's snap directory away and start it again to \
     rebuild it from its log, if that still reaches back to its founding; else remove the member \
     from the cluster and add it again with an empty \
     data directory";

const MAGIC: u32 = 0xbeef_c0de;
const VERSION: u32 = 1;
pub(super) const PAGE_HEADER_BYTES: usize = 16;
const META_BYTES: usize = PAGE_HEADER_BYTES + 136;
pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_OVERFLOW: u16 = 0x04;
pub(super) const NODE_OVERFLOW: u16 = 0x01;
pub(super) const NODE_TREE: u16 = 0x02;
pub(super) const NO_PAGE: u64 = u64::MAX;
/// LMDB's own limit on the depth of a tree.
pub(super) const DEPTH_MAX: u32 = 32;

/// Refuses a file whose meta pages are damaged, or that ends before its last page in use.
pub(super) fn check(path: &Path) -> Result<(), EngineError> {
    let file = match disk::wait_for_descriptors(path, || RealDisk.open(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(EngineError(format!(
                "cannot open {}: {error}",
                path.display()
            )));
        }
    };
    inspect(&file).map_err(|cause| {
        EngineError(format!(
            "{} is damaged: {cause}. To repair, {REMEDY}",
            path.display()
        ))
    })
}

/// A meta page.
pub(super) struct Meta {
    pub(super) page_bytes: usize,
    /// Of the free list and of the list of tables.
    pub(super) roots: [u64; 2],
    last_page: u64,
    transaction: u64,
}

fn inspect(file: &RealFile) -> Result<(), String> {
    let size = file.size_bytes().map_err(|error| error.to_string())?;
    let meta = newest_meta(file)?;
    let pages = size / meta.page_bytes as u64;
    if meta.last_page < pages {
        return Ok(());
    }
    // The last pages may never have been written because they are free: then no tree refers to
    // them.
    let walk = Walk {
        file,
        pages,
        page_bytes: meta.page_bytes,
    };
    meta.roots.iter().try_for_each(|root| walk.tree(*root, 0))
}

/// The meta page that is valid.
pub(super) fn newest_meta(file: &impl DiskFile) -> Result<Meta, String> {
    let first = meta(file, 0)?;
    let second = meta(file, first.page_bytes as u64)?;
    Ok(match first.transaction < second.transaction {
        true => second,
        false => first,
    })
}

fn meta(file: &impl DiskFile, offset: u64) -> Result<Meta, String> {
    let mut bytes = [0; META_BYTES];
    let read = file
        .read_at(offset, &mut bytes)
        .map_err(|error| error.to_string())?;
    if read < META_BYTES {
        return Err("the file is cut short".to_owned());
    }
    let meta = &bytes[PAGE_HEADER_BYTES..];
    if u32_at(meta, 0) != Some(MAGIC) || u32_at(meta, 4) != Some(VERSION) {
        return Err(format!("no LMDB meta page at byte {offset}"));
    }
    let field = |at| u64_at(meta, at).ok_or("a meta page is cut short");
    let page_bytes = u32_at(meta, 24).and_then(|size| usize::try_from(size).ok());
    let page_bytes = page_bytes.filter(|size| (512..=65536).contains(size));
    Ok(Meta {
        page_bytes: page_bytes.ok_or("a meta page names no page size")?,
        roots: [field(24 + 40)?, field(72 + 40)?],
        last_page: field(120)?,
        transaction: field(128)?,
    })
}

/// Walks every tree, and checks that each page is in the file and has the expected number and
/// kind.
struct Walk<'a> {
    file: &'a RealFile,
    pages: u64,
    page_bytes: usize,
}

impl Walk<'_> {
    fn tree(&self, page: u64, depth: u32) -> Result<(), String> {
        if page == NO_PAGE {
            return Ok(());
        }
        let bytes = self.page(page)?;
        let flags = u16_at(&bytes, 10).unwrap_or_default();
        let damaged = || format!("page {page} is not what it should be");
        let listed = u16_at(&bytes, 12).map(usize::from).ok_or_else(damaged)?;
        if DEPTH_MAX < depth || flags & (FLAG_BRANCH | FLAG_LEAF) == 0 {
            return Err(damaged());
        }
        for entry in (PAGE_HEADER_BYTES..listed).step_by(2) {
            let node = u16_at(&bytes, entry).map(usize::from).ok_or_else(damaged)?;
            let node = bytes.get(node..).ok_or_else(damaged)?;
            if flags & FLAG_BRANCH != 0 {
                self.tree(child(node).ok_or_else(damaged)?, depth + 1)?;
            } else {
                self.leaf_node(node, depth).ok_or_else(damaged)??;
            }
        }
        Ok(())
    }

    fn leaf_node(&self, node: &[u8], depth: u32) -> Option<Result<(), String>> {
        let flags = u16_at(node, 4)?;
        let key_bytes = usize::from(u16_at(node, 6)?);
        let data = node.get(8 + key_bytes..)?;
        if flags & NODE_TREE != 0 {
            return Some(self.tree(u64_at(data, 40)?, depth + 1));
        }
        if flags & NODE_OVERFLOW != 0 {
            return Some(self.overflow(u64_at(data, 0)?));
        }
        Some(Ok(()))
    }

    fn overflow(&self, page: u64) -> Result<(), String> {
        let bytes = self.page(page)?;
        let flags = u16_at(&bytes, 10).unwrap_or_default();
        let pages = u32_at(&bytes, 12).map(u64::from).unwrap_or_default();
        match flags & FLAG_OVERFLOW != 0 && page + pages <= self.pages {
            true => Ok(()),
            false => Err(format!("the value at page {page} is cut short")),
        }
    }

    fn page(&self, page: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; self.page_bytes];
        if self.pages <= page {
            return Err(format!("page {page} lies behind the end of the file"));
        }
        let read = self.file.read_at(page * self.page_bytes as u64, &mut bytes);
        read.map_err(|error| error.to_string())?;
        match u64_at(&bytes, 0) == Some(page) {
            true => Ok(bytes),
            false => Err(format!("page {page} is not what it should be")),
        }
    }
}

/// The 48-bit page number in a node of a branch page.
pub(super) fn child(node: &[u8]) -> Option<u64> {
    let word = |at| u16_at(node, at).map(u64::from);
    Some(word(0)? | word(2)? << 16 | word(4)? << 32)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}
