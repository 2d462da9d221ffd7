//! Which keys a request means: etcd's `key` and `range_end`.

use std::ops::Bound;

/// The bounds of keys in an ordered map.
pub type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The keys of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// No `range_end`: this key.
    One(&'a [u8]),
    /// `range_end` is one zero byte: this key and every greater one.
    From(&'a [u8]),
    /// From the first, up to and without the second; nothing if they are not in that order.
    Span(&'a [u8], &'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// Reads the two fields as etcd does.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> KeyRange<'a> {
        match range_end {
            [] => KeyRange::One(key),
            [0] => KeyRange::From(key),
            end => KeyRange::Span(key, end),
        }
    }

    /// Whether the key is one of them.
    pub fn contains(self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one,
            KeyRange::From(from) => from <= key,
            KeyRange::Span(from, end) => from <= key && key < end,
        }
    }

    /// The same keys as bounds of an ordered map; `None` when there can be none.
    pub fn bounds(self) -> Option<Bounds<'a>> {
        match self {
            KeyRange::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            KeyRange::From(key) => Some((Bound::Included(key), Bound::Unbounded)),
            KeyRange::Span(key, end) if key < end => {
                Some((Bound::Included(key), Bound::Excluded(end)))
            }
            KeyRange::Span(..) => None,
        }
    }
}
