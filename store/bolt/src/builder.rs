//! Writes a file in two passes over the same rows: the first plans it, the second emits it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::BuildError;
use crate::format::{self, Meta, PAGE_BYTES};
use crate::tree::Tree;

/// The number of the file's transaction.
const TRANSACTION: u64 = 2;
/// The pages before the first tree.
const META_PAGES: u64 = 2;

/// The place of everything in a planned file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    root: u64,
    pages: u64,
}

impl Layout {
    /// The size of the file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// What is left when the last row is in.
#[derive(Debug)]
pub struct Finished {
    /// The layout of the file.
    pub layout: Layout,
    /// The bytes that [`Builder::take`] has not taken; none of a plan.
    pub rest: Bytes,
}

/// A file under construction. Buckets may come in any order, each once; the keys of a bucket must
/// rise. Memory: one page a level of the tree, and what was not taken.
pub struct Builder {
    pages: Pages,
    /// Of the second pass.
    planned: Option<Layout>,
    /// The bucket that is being filled.
    current: Option<(Vec<u8>, Tree)>,
    /// The root pages of finished buckets.
    roots: BTreeMap<Vec<u8>, u64>,
}

impl Builder {
    /// The first pass: nothing is emitted.
    pub fn plan() -> Builder {
        Builder::new(None)
    }

    /// The second pass, over the same rows.
    pub fn write(layout: Layout) -> Builder {
        let mut builder = Builder::new(Some(layout));
        for number in 0..META_PAGES {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: layout.root,
                pages: layout.pages,
                transaction: TRANSACTION - number,
            };
            builder.pages.put(&meta.encode(number));
        }
        builder
    }

    fn new(planned: Option<Layout>) -> Builder {
        Builder {
            pages: Pages {
                out: planned.map(|_| BytesMut::new()),
                next: META_PAGES,
                current_end: 0,
                emitted: 0,
            },
            planned,
            current: None,
            roots: BTreeMap::new(),
        }
    }

    /// Ends the bucket before it, and begins one. It exists even if no row follows.
    ///
    /// # Errors
    /// [`BuildError::KeySize`], [`BuildError::Unsorted`] for a name that was used.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), BuildError> {
        self.end_bucket();
        if name.is_empty() || format::KEY_MAX < name.len() {
            return Err(BuildError::KeySize(name.len()));
        }
        if self.roots.contains_key(name) {
            return Err(BuildError::Unsorted);
        }
        self.current = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    /// Adds a row to the bucket.
    ///
    /// # Errors
    /// Those of [`BuildError`]; the file cannot be finished then.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BuildError> {
        let (_, tree) = self.current.as_mut().ok_or(BuildError::NoBucket)?;
        tree.row(&mut self.pages, key, value, false)
    }

    /// The bytes that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.pages.out.as_ref().map_or(0, BytesMut::len)
    }

    /// Takes the next bytes of the file, `max` at most.
    pub fn take(&mut self, max: usize) -> Bytes {
        let out = self.pages.out.as_mut();
        out.map_or_else(Bytes::new, |out| out.split_to(max.min(out.len())).freeze())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`BuildError::Differs`] if the rows of the second pass were not those of the first.
    pub fn finish(mut self) -> Result<Finished, BuildError> {
        self.end_bucket();
        let mut tree = Tree::default();
        for (name, root) in &self.roots {
            let mut value = [0; format::BUCKET_BYTES];
            value[..8].copy_from_slice(&root.to_le_bytes());
            tree.row(&mut self.pages, name, &value, true)?;
        }
        let layout = Layout {
            root: tree.finish(&mut self.pages),
            pages: self.pages.next,
        };
        if self.planned.is_some_and(|planned| planned != layout) {
            return Err(BuildError::Differs);
        }
        let rest = self.pages.out.unwrap_or_default().freeze();
        Ok(Finished { layout, rest })
    }

    fn end_bucket(&mut self) {
        if let Some((name, tree)) = self.current.take() {
            let root = tree.finish(&mut self.pages);
            self.roots.insert(name, root);
        }
    }
}

/// The pages that have left the trees, in the order of the file.
pub(crate) struct Pages {
    /// `None` while the file is planned.
    out: Option<BytesMut>,
    next: u64,
    /// The end of the page that is being emitted, and what is emitted of it.
    current_end: usize,
    emitted: usize,
}

impl Pages {
    pub(crate) fn is_emitting(&self) -> bool {
        self.out.is_some()
    }

    /// Begins a page of that many bytes, with its header. Returns its number.
    pub(crate) fn begin(&mut self, flags: u16, count: usize, bytes: usize) -> u64 {
        let pages = bytes.div_ceil(PAGE_BYTES).max(1);
        let number = self.next;
        self.next += pages as u64;
        (self.current_end, self.emitted) = (pages * PAGE_BYTES, 0);
        let overflow = (pages - 1) as u32;
        self.put(&format::header(number, flags, count as u16, overflow));
        number
    }

    /// Emits bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes);
        }
        self.emitted += bytes.len();
    }

    /// Fills the page up with zeros.
    pub(crate) fn end(&mut self) {
        if let Some(out) = &mut self.out {
            let missing = self.current_end.saturating_sub(self.emitted);
            out.resize(out.len() + missing, 0);
        }
    }
}
