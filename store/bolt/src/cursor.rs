//! Walks the rows of a bucket in the order of their keys.

use bytes::Bytes;

use crate::database::{Database, Source, damaged};
use crate::format::{BRANCH, ELEMENT_BYTES, HEADER_BYTES, IS_BUCKET, LEAF, u16_at, u32_at, u64_at};
use crate::{Error, format};

/// The most levels of a tree: 4,096 bytes a page and two children a branch are enough for any file
/// far below it.
const LEVELS_MAX: usize = 64;

/// A row. Key and value share the bytes of their page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value; of a bucket, for [`Database::open_bucket`].
    pub value: Bytes,
    /// Whether it is a bucket.
    pub is_bucket: bool,
}

/// The root of a bucket.
pub(crate) enum Place {
    Page(u64),
    /// A leaf within the bucket's own row.
    Inline(Bytes),
}

/// A position in a bucket. Memory: one page a level.
pub struct Cursor<'a, S> {
    database: &'a Database<S>,
    /// From the root to a leaf.
    path: Vec<Step>,
    /// The pages that may still be visited: each is reachable once, so a file with a circle ends.
    pages_left: u64,
    last_key: Bytes,
}

/// A page on the path.
struct Step {
    number: u64,
    page: Bytes,
    is_leaf: bool,
    count: usize,
    /// The next element.
    next: usize,
}

impl<'a, S: Source> Cursor<'a, S> {
    pub(crate) fn new(database: &'a Database<S>, root: Place) -> Result<Cursor<'a, S>, Error> {
        let mut cursor = Cursor {
            database,
            path: Vec::new(),
            pages_left: database.pages(),
            last_key: Bytes::new(),
        };
        match root {
            Place::Page(number) => cursor.descend(number)?,
            Place::Inline(page) => {
                let step = Step::new(0, page)?;
                if !step.is_leaf {
                    return Err(damaged(0, "an inline bucket that is not a leaf"));
                }
                cursor.path.push(step);
            }
        }
        Ok(cursor)
    }

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`]. The cursor must not be used afterwards.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would go on after an error"
    )]
    pub fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            let Some(step) = self.path.last_mut() else {
                return Ok(None);
            };
            if step.count <= step.next {
                self.path.pop();
                continue;
            }
            let at = step.next;
            step.next += 1;
            if !step.is_leaf {
                let child = step.child(at)?;
                self.descend(child)?;
                continue;
            }
            let (number, row) = (step.number, step.row(at)?);
            // A key is never empty, so the first one is above the empty `last_key`.
            if row.key <= self.last_key {
                return Err(damaged(number, "keys that do not rise"));
            }
            self.last_key = row.key.clone();
            return Ok(Some(row));
        }
    }

    fn descend(&mut self, number: u64) -> Result<(), Error> {
        if self.path.len() == LEVELS_MAX {
            return Err(damaged(number, "a tree of too many levels"));
        }
        let page = self.database.page(number)?;
        let left = self.pages_left.checked_sub(self.database.pages_of(&page));
        self.pages_left = left.ok_or_else(|| damaged(number, "reached a second time"))?;
        self.path.push(Step::new(number, page)?);
        Ok(())
    }
}

impl Step {
    fn new(number: u64, page: Bytes) -> Result<Step, Error> {
        let flags = u16_at(&page, 8).unwrap_or(0);
        let count = usize::from(u16_at(&page, 10).unwrap_or(0));
        if flags != LEAF && flags != BRANCH {
            return Err(damaged(number, "neither a branch nor a leaf"));
        }
        if page.len() < HEADER_BYTES + count * ELEMENT_BYTES {
            return Err(damaged(number, "more elements than it has room for"));
        }
        Ok(Step {
            number,
            page,
            is_leaf: flags == LEAF,
            count,
            next: 0,
        })
    }

    fn child(&self, at: usize) -> Result<u64, Error> {
        let child = u64_at(&self.page, HEADER_BYTES + at * ELEMENT_BYTES + 8);
        child.ok_or_else(|| damaged(self.number, "an element beyond its end"))
    }

    fn row(&self, at: usize) -> Result<Row, Error> {
        let row = self.row_at(HEADER_BYTES + at * ELEMENT_BYTES);
        let row = row.ok_or_else(|| damaged(self.number, "an element beyond its end"))?;
        match row.key.len() {
            1..=format::KEY_MAX => Ok(row),
            _ => Err(damaged(self.number, "a key that bbolt does not allow")),
        }
    }

    fn row_at(&self, element: usize) -> Option<Row> {
        let word = |at: usize| Some(u32_at(&self.page, element + at)? as usize);
        let key = element.checked_add(word(4)?)?;
        let value = key.checked_add(word(8)?)?;
        let end = value.checked_add(word(12)?)?;
        (end <= self.page.len()).then(|| Row {
            key: self.page.slice(key..value),
            value: self.page.slice(value..end),
            is_bucket: u32_at(&self.page, element).is_some_and(|flags| flags & IS_BUCKET != 0),
        })
    }
}
