//! LMDB's file: its metas, and a check before LMDB opens it, since an access after the end of a
//! mapped file is a crash of the process, not an error.
//!
//! Layout of LMDB 0.9 on 64-bit machines, little endian. A page begins with its number (8 bytes), 2
//! unused bytes and flags (2). Then follow the end of its node list (2) and the start of its nodes
//! (2), or its length in pages (4). Pages 0 and 1 hold the two metas; the one with the higher
//! transaction id is valid.

use std::io;
use std::path::Path;

use keelson_core::engine::EngineError;

use super::walk::{Found, Walk};
use crate::disk::{self, Disk, DiskFile, RealDisk, RealFile};

pub(super) const REMEDY: &str = "move the member's snap directory away and start it again to \
     rebuild it from its log, if that still reaches back to its founding; else remove the member \
     from the cluster and add it again with an empty \
     data directory";

const MAGIC: u32 = 0xbeef_c0de;
const VERSION: u32 = 1;
pub(super) const PAGE_HEADER_BYTES: usize = 16;
const META_BYTES: usize = PAGE_HEADER_BYTES + 136;

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
    let mut walk = Walk::new(file, &meta, pages);
    let mut roots = meta.roots.to_vec();
    while let Some(root) = roots.pop() {
        walk.tree(root, &mut |walk, found| {
            match found {
                Found::Tree { root, .. } => roots.push(root),
                Found::Large { page, .. } => {
                    walk.check_large(page)?;
                }
                Found::Row { .. } => {}
            }
            Ok(true)
        })?;
    }
    Ok(())
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
