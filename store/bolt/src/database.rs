//! Reads a file of which nothing is known.

use std::io;

use bytes::Bytes;

use crate::Error;
use crate::cursor::{Cursor, Place};
use crate::format::{BUCKET_BYTES, HEADER_BYTES, META_BYTES, Meta, u32_at, u64_at};

/// The sizes of pages that are read, as powers of two. The second meta page is searched with them.
const PAGE_SIZE_BITS: [u32; 8] = [9, 10, 11, 12, 13, 14, 15, 16];
/// The longest page with its overflow, in bytes: bbolt puts few rows into one.
const PAGE_BYTES_MAX: u64 = 256 << 20;

/// Where the bytes of a file are.
pub trait Source {
    /// Reads exactly these bytes.
    ///
    /// # Errors
    /// Those of the system, and [`io::ErrorKind::UnexpectedEof`] beyond the end.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// The length, in bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn bytes(&self) -> io::Result<u64>;
}

impl Source for &[u8] {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let found = from.and_then(|from| self.get(from..from.checked_add(bytes.len())?));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// An open file. What follows the last page is ignored, as the checksum behind etcd's snapshots.
pub struct Database<S> {
    source: S,
    meta: Meta,
    bytes: u64,
}

impl<S: Source> Database<S> {
    /// Reads the meta pages, of which the newer valid one counts.
    ///
    /// # Errors
    /// [`Error::NotBolt`], [`Error::Io`].
    pub fn open(source: S) -> Result<Database<S>, Error> {
        let bytes = source.bytes()?;
        let at = |offset: u64| -> Result<Option<Meta>, Error> {
            if bytes < offset.saturating_add(META_BYTES as u64) {
                return Ok(None);
            }
            let mut page = [0; META_BYTES];
            source.read_at(offset, &mut page)?;
            Ok(Meta::decode(&page))
        };
        let mut newest = at(0)?;
        for size in PAGE_SIZE_BITS.map(|bits| 1_u32 << bits) {
            let expected = newest.is_none_or(|meta| meta.page_bytes == size);
            let second = match expected {
                true => at(u64::from(size))?.filter(|meta| meta.page_bytes == size),
                false => None,
            };
            if let Some(second) = second
                && newest.is_none_or(|first| first.transaction < second.transaction)
            {
                newest = Some(second);
                break;
            }
        }
        let meta = newest.ok_or(Error::NotBolt("no valid meta page"))?;
        if !PAGE_SIZE_BITS
            .iter()
            .any(|bits| meta.page_bytes == 1 << bits)
        {
            return Err(Error::NotBolt("a page size that bbolt does not use"));
        }
        Ok(Database {
            source,
            meta,
            bytes,
        })
    }

    /// Where the bytes are.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The buckets.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn buckets(&self) -> Result<Cursor<'_, S>, Error> {
        Cursor::new(self, Place::Page(self.meta.root))
    }

    /// The rows of a bucket; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Cursor<'_, S>>, Error> {
        let mut buckets = self.buckets()?;
        while let Some(row) = buckets.next()? {
            if row.is_bucket && row.key == name {
                return self.open_bucket(&row.value).map(Some);
            }
        }
        Ok(None)
    }

    /// The rows of a bucket whose row another cursor has returned.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn open_bucket(&self, value: &Bytes) -> Result<Cursor<'_, S>, Error> {
        let root = u64_at(value, 0).filter(|_| BUCKET_BYTES <= value.len());
        match root.ok_or_else(|| damaged(0, "a bucket without a root"))? {
            0 => Cursor::new(self, Place::Inline(value.slice(BUCKET_BYTES..))),
            root => Cursor::new(self, Place::Page(root)),
        }
    }

    /// The bytes of all pages, used or free.
    pub fn bytes(&self) -> u64 {
        self.meta
            .pages
            .saturating_mul(u64::from(self.meta.page_bytes))
    }

    /// The number of pages. The meta page may state more than the file has.
    pub(crate) fn pages(&self) -> u64 {
        let held = self.bytes / u64::from(self.meta.page_bytes);
        self.meta.pages.min(held)
    }

    /// The number of pages that a page takes, with its overflow.
    pub(crate) fn pages_of(&self, page: &Bytes) -> u64 {
        page.len() as u64 / u64::from(self.meta.page_bytes)
    }

    /// The page of that number with its overflow.
    pub(crate) fn page(&self, number: u64) -> Result<Bytes, Error> {
        let size = u64::from(self.meta.page_bytes);
        if number < 2 || self.meta.pages <= number {
            return Err(damaged(number, "beyond the pages of the file"));
        }
        let offset = number.checked_mul(size);
        let offset = offset.ok_or_else(|| damaged(number, "beyond the end of the file"))?;
        let left = self.bytes.saturating_sub(offset);
        let mut header = [0; HEADER_BYTES];
        if left < HEADER_BYTES as u64 {
            return Err(damaged(number, "beyond the end of the file"));
        }
        self.source.read_at(offset, &mut header)?;
        if u64_at(&header, 0) != Some(number) {
            return Err(damaged(number, "another number in its header"));
        }
        let overflow = u64::from(u32_at(&header, 12).unwrap_or(u32::MAX));
        let bytes = (overflow + 1) * size;
        if left < bytes || PAGE_BYTES_MAX < bytes {
            return Err(damaged(number, "longer than the file, or than 256 MiB"));
        }
        let mut page = vec![0; bytes as usize];
        self.source.read_at(offset, &mut page)?;
        Ok(Bytes::from(page))
    }
}

pub(crate) fn damaged(page: u64, what: &'static str) -> Error {
    Error::Damaged { page, what }
}
