//! Sets of keys, as sorted ranges.

use bytes::Bytes;

use crate::state::KeyRange;

/// From `begin` up to, and without, `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    begin: Bytes,
    /// `None`: to the last key.
    end: Option<Bytes>,
}

impl Span {
    /// `None` if the range is empty.
    fn new(range: KeyRange<'_>) -> Option<Span> {
        let (begin, end) = match range {
            KeyRange::One(key) => (key, Some([key, b"\0"].concat())),
            KeyRange::From(key) => (key, None),
            KeyRange::Span(key, end) if key < end => (key, Some(end.to_vec())),
            KeyRange::Span(..) => return None,
        };
        Some(Span {
            begin: Bytes::copy_from_slice(begin),
            end: end.map(Bytes::from),
        })
    }

    /// Whether the span ends behind that key.
    fn reaches(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// A set of keys: disjoint spans in order, with a gap between any two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet(Vec<Span>);

impl KeySet {
    /// The union of ranges. Adjacent ones melt into one, as in etcd.
    pub(super) fn new<'a>(ranges: impl IntoIterator<Item = KeyRange<'a>>) -> KeySet {
        let mut spans: Vec<_> = ranges.into_iter().filter_map(Span::new).collect();
        spans.sort_unstable_by(|a, b| a.begin.cmp(&b.begin));
        let mut set: Vec<Span> = Vec::new();
        for span in spans {
            match set.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| span.begin <= end) => {
                    let further = match (&last.end, &span.end) {
                        (None, _) | (_, None) => None,
                        (Some(a), Some(b)) => Some(a.max(b).clone()),
                    };
                    last.end = further;
                }
                _ => set.push(span),
            }
        }
        KeySet(set)
    }

    /// The last span that begins at or before that key.
    fn span(&self, key: &[u8]) -> Option<&Span> {
        let after = self.0.partition_point(|span| span.begin <= key);
        after.checked_sub(1).map(|at| &self.0[at])
    }

    /// Whether the set contains all of some keys. `next` finds the first of them at or after a key,
    /// so that the cost is that of the spans, and not that of the keys.
    pub(super) fn contains_all<'a>(&self, next: impl Fn(&[u8]) -> Option<&'a [u8]>) -> bool {
        let mut from: &[u8] = b"";
        while let Some(key) = next(from) {
            let span = self.span(key).filter(|span| span.reaches(key));
            match span.map(|span| &span.end) {
                None => return false,
                Some(None) => return true,
                Some(Some(end)) => from = end,
            }
        }
        true
    }

    /// Whether the set contains every key of the range. An empty range counts as its first key.
    pub(super) fn contains(&self, range: KeyRange<'_>) -> bool {
        let (KeyRange::One(key) | KeyRange::From(key) | KeyRange::Span(key, _)) = range;
        let Some(span) = self.span(key) else {
            return false;
        };
        match range {
            KeyRange::From(_) => span.end.is_none(),
            KeyRange::Span(_, end) if key < end => {
                span.end.as_ref().is_none_or(|last| end <= &last[..])
            }
            KeyRange::One(_) | KeyRange::Span(..) => span.reaches(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(begin: u8, end: u8) -> (Vec<u8>, Vec<u8>) {
        let end = match end {
            0 => vec![],
            1 => vec![0],
            end => vec![end],
        };
        (vec![begin], end)
    }

    fn ranges() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        proptest::collection::vec((0..12_u8, 0..12_u8).prop_map(|(a, b)| range(a, b)), 0..6)
    }

    /// Every key of up to two bytes that the ranges of the test can distinguish.
    fn keys() -> impl Iterator<Item = Vec<u8>> {
        (0..14_u8).flat_map(|first| [vec![first], vec![first, 0], vec![first, 7]])
    }

    proptest! {
        #[test]
        fn a_range_is_contained_if_all_of_its_keys_are(
            of in ranges(), begin in 0..12_u8, end in 0..12_u8,
        ) {
            let of: Vec<_> = of.iter().map(|(a, b)| KeyRange::new(a, b)).collect();
            let set = KeySet::new(of.iter().copied());
            let permitted = |key: &[u8]| of.iter().any(|range| range.contains(key));
            for key in keys() {
                prop_assert_eq!(set.contains(KeyRange::One(&key)), permitted(&key));
            }
            let (begin, end) = range(begin, end);
            let asked = KeyRange::new(&begin, &end);
            let mut inside = keys().filter(|key| asked.contains(key)).peekable();
            let expected = match inside.peek() {
                // Larger keys than those of the test exist.
                Some(_) => inside.all(|key| permitted(&key)),
                None => permitted(&begin),
            };
            prop_assert_eq!(set.contains(asked), expected);
        }
    }

    proptest! {
        #[test]
        fn keys_are_contained_if_each_is(
            of in ranges(), some in proptest::collection::btree_set((0..14_u8, 0..3_u8), 0..6),
        ) {
            let of: Vec<_> = of.iter().map(|(a, b)| KeyRange::new(a, b)).collect();
            let set = KeySet::new(of.iter().copied());
            let some: Vec<_> = some.into_iter().map(|(a, b)| vec![a, b]).collect();
            let next = |from: &[u8]| some.iter().map(|key| &key[..]).find(|key| from <= *key);
            let each = some.iter().all(|key| set.contains(KeyRange::One(key)));
            prop_assert_eq!(set.contains_all(next), each);
        }
    }

    /// A lease of 100,000 keys must not be walked at each put that attaches one more.
    #[test]
    fn many_keys_of_one_span_are_found_at_once() {
        let set = KeySet::new([KeyRange::Span(b"a", b"c"), KeyRange::From(b"x")]);
        let calls = std::cell::Cell::new(0);
        let all = set.contains_all(|from| {
            calls.set(calls.get() + 1);
            let keys: [&[u8]; 5] = [b"a1", b"a2", b"b", b"x", b"y"];
            keys.into_iter().find(|key| from <= *key)
        });
        assert!(all);
        assert_eq!(calls.get(), 2);
    }

    #[test]
    fn the_empty_key_is_the_first() {
        let all = KeySet::new([KeyRange::From(b"")]);
        assert!(all.contains(KeyRange::From(b"\0")) && all.contains(KeyRange::One(b"a")));
        let not_first = KeySet::new([KeyRange::From(b"\0")]);
        assert!(!not_first.contains(KeyRange::From(b"")));
    }
}
