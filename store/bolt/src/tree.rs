//! One bucket's B+ tree, built from sorted rows in one pass.
//!
//! A page leaves as soon as it is full, a branch after its last child. So the tree holds one leaf,
//! and two branches a level. The last branch of a level waits: bbolt asserts that a branch has two
//! children or more, so it may have to give one to its successor.

use crate::BuildError;
use crate::builder::Pages;
use crate::format::{
    BRANCH, ELEMENT_BYTES, HEADER_BYTES, IS_BUCKET, KEY_MAX, LEAF, PAGE_BYTES, VALUE_MAX,
};

/// A tree under construction.
#[derive(Default)]
pub(crate) struct Tree {
    leaf: Leaf,
    levels: Vec<Level>,
    last_key: Vec<u8>,
}

/// The rows of the leaf that is being filled.
#[derive(Default)]
struct Leaf {
    first_key: Vec<u8>,
    /// Flags, length of the key, length of the value.
    elements: Vec<(u32, u32, u32)>,
    /// Keys and values, one after the other; empty while the file is planned.
    data: Vec<u8>,
    /// The bytes of the page.
    bytes: usize,
}

/// A page, and the first key below it.
struct Child {
    key: Vec<u8>,
    page: u64,
}

impl Child {
    fn bytes(&self) -> usize {
        ELEMENT_BYTES + self.key.len()
    }
}

/// The branches of one level that have not left.
#[derive(Default)]
struct Level {
    /// A full one.
    full: Option<Vec<Child>>,
    /// The one that is being filled.
    filling: Vec<Child>,
    /// The bytes of the latter's elements.
    bytes: usize,
}

impl Tree {
    /// Adds a row.
    pub(crate) fn row(
        &mut self,
        pages: &mut Pages,
        key: &[u8],
        value: &[u8],
        is_bucket: bool,
    ) -> Result<(), BuildError> {
        if key.is_empty() || KEY_MAX < key.len() {
            return Err(BuildError::KeySize(key.len()));
        }
        if VALUE_MAX < value.len() {
            return Err(BuildError::ValueSize(value.len()));
        }
        // A key is never empty, so the first one is above the empty `last_key`.
        if key <= &self.last_key[..] {
            return Err(BuildError::Unsorted);
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        let bytes = ELEMENT_BYTES + key.len() + value.len();
        let is_full = PAGE_BYTES < HEADER_BYTES + self.leaf.bytes + bytes;
        if is_full && !self.leaf.elements.is_empty() {
            self.close_leaf(pages);
        }
        let leaf = &mut self.leaf;
        if leaf.elements.is_empty() {
            leaf.first_key.extend_from_slice(key);
        }
        let flags = if is_bucket { IS_BUCKET } else { 0 };
        leaf.elements
            .push((flags, key.len() as u32, value.len() as u32));
        leaf.bytes += bytes;
        if pages.is_emitting() {
            leaf.data.extend_from_slice(key);
            leaf.data.extend_from_slice(value);
        }
        Ok(())
    }

    /// Emits what is left, and returns the root page.
    pub(crate) fn finish(mut self, pages: &mut Pages) -> u64 {
        if self.levels.is_empty() || !self.leaf.elements.is_empty() {
            self.close_leaf(pages);
        }
        let mut at = 0;
        loop {
            let level = std::mem::take(&mut self.levels[at]);
            let Some(full) = level.full else {
                // The whole level, so there is none above it.
                return match &level.filling[..] {
                    [only] => only.page,
                    _ => emit_branch(pages, level.filling).page,
                };
            };
            for children in balanced(full, level.filling) {
                let child = emit_branch(pages, children);
                self.add(pages, at + 1, child);
            }
            at += 1;
        }
    }

    fn close_leaf(&mut self, pages: &mut Pages) {
        let leaf = std::mem::take(&mut self.leaf);
        let page = pages.begin(LEAF, leaf.elements.len(), HEADER_BYTES + leaf.bytes);
        let mut offset = leaf.elements.len() * ELEMENT_BYTES;
        for (at, (flags, key, value)) in leaf.elements.iter().enumerate() {
            let position = (offset - at * ELEMENT_BYTES) as u32;
            for word in [*flags, position, *key, *value] {
                pages.put(&word.to_le_bytes());
            }
            offset += (key + value) as usize;
        }
        pages.put(&leaf.data);
        pages.end();
        let key = leaf.first_key;
        self.add(pages, 0, Child { key, page });
    }

    /// Adds a page to its level, and to those above what becomes full.
    fn add(&mut self, pages: &mut Pages, level: usize, child: Child) {
        let (mut at, mut next) = (level, Some(child));
        while let Some(child) = next {
            if self.levels.len() == at {
                self.levels.push(Level::default());
            }
            next = self.levels[at].add(pages, child);
            at += 1;
        }
    }
}

impl Level {
    /// Adds a child. Returns the branch that left because of it.
    fn add(&mut self, pages: &mut Pages, child: Child) -> Option<Child> {
        let is_full = PAGE_BYTES < HEADER_BYTES + self.bytes + child.bytes();
        let mut left = None;
        if is_full && 2 <= self.filling.len() {
            let filled = std::mem::take(&mut self.filling);
            left = self.full.replace(filled);
            self.bytes = 0;
        }
        self.bytes += child.bytes();
        self.filling.push(child);
        left.map(|children| emit_branch(pages, children))
    }
}

/// The last two branches of a level, or one: each with two children or more.
fn balanced(mut full: Vec<Child>, mut last: Vec<Child>) -> Vec<Vec<Child>> {
    if 2 <= last.len() {
        return vec![full, last];
    }
    if full.len() == 2 {
        full.append(&mut last);
        return vec![full];
    }
    let moved = full.split_off(full.len() - 1);
    vec![full, moved.into_iter().chain(last).collect()]
}

fn emit_branch(pages: &mut Pages, children: Vec<Child>) -> Child {
    let bytes = children.iter().map(Child::bytes).sum::<usize>();
    let page = pages.begin(BRANCH, children.len(), HEADER_BYTES + bytes);
    let mut offset = children.len() * ELEMENT_BYTES;
    for (at, child) in children.iter().enumerate() {
        let position = (offset - at * ELEMENT_BYTES) as u32;
        pages.put(&position.to_le_bytes());
        pages.put(&(child.key.len() as u32).to_le_bytes());
        pages.put(&child.page.to_le_bytes());
        offset += child.key.len();
    }
    for child in &children {
        pages.put(&child.key);
    }
    pages.end();
    let first = children.into_iter().next();
    let key = first.map(|child| child.key).unwrap_or_default();
    Child { key, page }
}
