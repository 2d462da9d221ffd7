//! An index of key ranges: which ranges contain a key.
//!
//! Single keys are in a map. Ranges are in a treap in the order of their lower bounds, in which
//! each node has the greatest upper bound below it. So the cost of a lookup depends on the ranges
//! that contain the key, and on the logarithm of all others.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::state::KeyRange;

/// The upper bound of a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangeEnd {
    /// Up to this key, and without it.
    Until(Bytes),
    /// To the last key.
    Open,
}

impl RangeEnd {
    fn is_beyond(&self, key: &[u8]) -> bool {
        match self {
            RangeEnd::Until(end) => key < &end[..],
            RangeEnd::Open => true,
        }
    }
}

/// The keys of a watcher.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchRange {
    /// One key.
    Key(Bytes),
    /// All keys from this one to the end.
    Span(Bytes, RangeEnd),
}

impl WatchRange {
    /// Interprets `key` and `range_end` of a watch; `None` if the range is empty. Unlike in other
    /// requests, an empty key stands for the least one. The bounds are copied: those of a request
    /// may be parts of a far larger buffer.
    pub fn new(key: &[u8], range_end: &[u8]) -> Option<WatchRange> {
        let key = match key {
            [] => Bytes::from_static(b"\0"),
            key => Bytes::copy_from_slice(key),
        };
        match range_end {
            [] => Some(WatchRange::Key(key)),
            [0] => Some(WatchRange::Span(key, RangeEnd::Open)),
            end => (key[..] < *end)
                .then(|| WatchRange::Span(key, RangeEnd::Until(Bytes::copy_from_slice(end)))),
        }
    }

    /// The same as the fields of a request mean.
    pub fn keys(&self) -> KeyRange<'_> {
        match self {
            WatchRange::Key(key) => KeyRange::One(key),
            WatchRange::Span(from, RangeEnd::Open) => KeyRange::From(from),
            WatchRange::Span(from, RangeEnd::Until(end)) => KeyRange::Span(from, end),
        }
    }

    /// Whether the range contains the key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            WatchRange::Key(one) => one == key,
            WatchRange::Span(from, end) => from <= key && end.is_beyond(key),
        }
    }

    /// The bytes of its bounds.
    pub fn bytes(&self) -> usize {
        match self {
            WatchRange::Key(key) => key.len(),
            WatchRange::Span(from, RangeEnd::Open) => from.len(),
            WatchRange::Span(from, RangeEnd::Until(end)) => from.len() + end.len(),
        }
    }
}

/// A node of the treap.
struct TreapNode<V> {
    from: Bytes,
    end: RangeEnd,
    /// The greatest upper bound in this subtree.
    reach: RangeEnd,
    /// A parent's priority is at least that of its children.
    priority: u64,
    left: Option<Box<TreapNode<V>>>,
    right: Option<Box<TreapNode<V>>>,
    value: V,
}

type Treap<V> = Option<Box<TreapNode<V>>>;

impl<V> TreapNode<V> {
    fn update(&mut self) {
        let below = [&self.left, &self.right].into_iter().flatten();
        let reach = below.map(|child| &child.reach).chain([&self.end]).max();
        self.reach = reach.expect("its own bound is among them").clone();
    }

    fn compare(&self, from: &[u8], end: &RangeEnd) -> Ordering {
        (&self.from[..], &self.end).cmp(&(from, end))
    }
}

/// A map from ranges to values.
pub struct RangeIndex<V> {
    keys: BTreeMap<Bytes, V>,
    spans: Treap<V>,
    /// The number of insertions into the treap, from which priorities are made.
    inserted: u64,
}

impl<V> Default for RangeIndex<V> {
    fn default() -> RangeIndex<V> {
        RangeIndex {
            keys: BTreeMap::new(),
            spans: None,
            inserted: 0,
        }
    }
}

impl<V> RangeIndex<V> {
    /// The value of a range.
    pub fn get_mut(&mut self, range: &WatchRange) -> Option<&mut V> {
        let (from, end) = match range {
            WatchRange::Key(key) => return self.keys.get_mut(key),
            WatchRange::Span(from, end) => (from, end),
        };
        let mut node = self.spans.as_deref_mut()?;
        loop {
            node = match node.compare(from, end) {
                Ordering::Equal => return Some(&mut node.value),
                Ordering::Less => node.right.as_deref_mut()?,
                Ordering::Greater => node.left.as_deref_mut()?,
            };
        }
    }

    /// Inserts a range that is not in the index.
    pub fn insert(&mut self, range: &WatchRange, value: V) {
        match range {
            WatchRange::Key(key) => drop(self.keys.insert(key.clone(), value)),
            WatchRange::Span(from, end) => {
                self.inserted += 1;
                let node = Box::new(TreapNode {
                    from: from.clone(),
                    end: end.clone(),
                    reach: end.clone(),
                    priority: scramble(self.inserted),
                    left: None,
                    right: None,
                    value,
                });
                let spans = self.spans.take();
                self.spans = Some(inserted(spans, node));
            }
        }
    }

    /// Removes a range.
    pub fn remove(&mut self, range: &WatchRange) -> Option<V> {
        match range {
            WatchRange::Key(key) => self.keys.remove(key),
            WatchRange::Span(from, end) => removed(&mut self.spans, from, end),
        }
    }

    /// Visits the value of each range that contains the key.
    pub fn visit<'a>(&'a self, key: &[u8], see: &mut impl FnMut(&'a V)) {
        if let Some(value) = self.keys.get(key) {
            see(value);
        }
        visit(&self.spans, key, see);
    }

    /// Whether a range contains the key.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key) || reaches(&self.spans, key)
    }

    /// Whether the index has no range.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.spans.is_none()
    }
}

/// Spreads successive numbers over all priorities (the finalizer of splitmix64). The same order of
/// insertions gives the same tree.
fn scramble(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn inserted<V>(tree: Treap<V>, mut node: Box<TreapNode<V>>) -> Box<TreapNode<V>> {
    let Some(mut root) = tree else {
        return node;
    };
    if root.priority < node.priority {
        let (left, right) = split(Some(root), &node.from, &node.end);
        (node.left, node.right) = (left, right);
        node.update();
        return node;
    }
    let side = match root.compare(&node.from, &node.end) {
        Ordering::Less => &mut root.right,
        _ => &mut root.left,
    };
    *side = Some(inserted(side.take(), node));
    root.update();
    root
}

/// The ranges before the given one, and the others.
fn split<V>(tree: Treap<V>, from: &[u8], end: &RangeEnd) -> (Treap<V>, Treap<V>) {
    let Some(mut root) = tree else {
        return (None, None);
    };
    if root.compare(from, end).is_lt() {
        let (left, right) = split(root.right.take(), from, end);
        root.right = left;
        root.update();
        (Some(root), right)
    } else {
        let (left, right) = split(root.left.take(), from, end);
        root.left = right;
        root.update();
        (left, Some(root))
    }
}

/// Joins two trees; every range of the first is before those of the second.
fn merged<V>(left: Treap<V>, right: Treap<V>) -> Treap<V> {
    let (mut left, mut right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return left.or(right),
    };
    if right.priority <= left.priority {
        left.right = merged(left.right.take(), Some(right));
        left.update();
        Some(left)
    } else {
        right.left = merged(Some(left), right.left.take());
        right.update();
        Some(right)
    }
}

fn removed<V>(tree: &mut Treap<V>, from: &[u8], end: &RangeEnd) -> Option<V> {
    let root = tree.as_deref_mut()?;
    let value = match root.compare(from, end) {
        Ordering::Less => removed(&mut root.right, from, end)?,
        Ordering::Greater => removed(&mut root.left, from, end)?,
        Ordering::Equal => {
            let node = *tree.take()?;
            *tree = merged(node.left, node.right);
            return Some(node.value);
        }
    };
    root.update();
    Some(value)
}

fn visit<'a, V>(tree: &'a Treap<V>, key: &[u8], see: &mut impl FnMut(&'a V)) {
    let Some(node) = tree else { return };
    if !node.reach.is_beyond(key) {
        return;
    }
    visit(&node.left, key, see);
    if node.from <= key {
        if node.end.is_beyond(key) {
            see(&node.value);
        }
        visit(&node.right, key, see);
    }
}

fn reaches<V>(tree: &Treap<V>, key: &[u8]) -> bool {
    let Some(node) = tree else { return false };
    if !node.reach.is_beyond(key) {
        return false;
    }
    let here = node.from <= key && node.end.is_beyond(key);
    here || reaches(&node.left, key) || (node.from <= key && reaches(&node.right, key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(from: u8, end: u8) -> Option<WatchRange> {
        let end = match end {
            0 => vec![],
            1 => vec![0],
            end => vec![end],
        };
        WatchRange::new(&[from], &end)
    }

    proptest! {
        #[test]
        fn every_lookup_finds_the_ranges_that_contain_the_key(
            changes in prop::collection::vec((1..40u8, 0..40u8, any::<bool>()), 0..200),
        ) {
            let mut index = RangeIndex::default();
            let mut model = BTreeSet::new();
            for (from, end, insert) in changes {
                let Some(range) = range(from, end) else { continue };
                if insert && model.insert(range.clone()) {
                    index.insert(&range, range.clone());
                } else if !insert {
                    let there = model.remove(&range);
                    prop_assert_eq!(index.remove(&range).is_some(), there);
                }
                prop_assert_eq!(index.get_mut(&range).is_some(), model.contains(&range));
            }
            prop_assert_eq!(index.is_empty(), model.is_empty());
            for key in 0..42u8 {
                let mut found = BTreeSet::new();
                index.visit(&[key], &mut |range: &WatchRange| {
                    found.insert(range.clone());
                });
                let expected: BTreeSet<_> =
                    model.iter().filter(|range| range.contains(&[key])).cloned().collect();
                prop_assert_eq!(index.contains(&[key]), !expected.is_empty());
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn ranges_are_those_of_a_watch() {
        let new = |key: &str, end: &str| WatchRange::new(key.as_bytes(), end.as_bytes());
        assert!(new("", "").unwrap().contains(b"\0"));
        assert!(new("", "\0").unwrap().contains(b"anything"));
        assert!(!new("b", "\0").unwrap().contains(b"a"));
        assert_eq!(new("b", "b"), None);
        assert_eq!(new("b", "a"), None);
    }
}
