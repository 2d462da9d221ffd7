//! The keys that a request addresses: etcd's `key` and `range_end`.

/// The keys of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// No `range_end`: this key.
    One(&'a [u8]),
    /// `range_end` is one zero byte: this key and every greater one.
    From(&'a [u8]),
    /// From the first key up to, and without, the second; empty if they are not in this order.
    Span(&'a [u8], &'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// Interprets the two fields as etcd does.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> KeyRange<'a> {
        match range_end {
            [] => KeyRange::One(key),
            [0] => KeyRange::From(key),
            end => KeyRange::Span(key, end),
        }
    }

    /// Whether the range contains the key.
    pub fn contains(self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one,
            KeyRange::From(from) => from <= key,
            KeyRange::Span(from, end) => from <= key && key < end,
        }
    }

    /// The lower bound; `None` if the range is empty.
    pub(super) fn first(self) -> Option<&'a [u8]> {
        match self {
            KeyRange::One(key) | KeyRange::From(key) => Some(key),
            KeyRange::Span(key, end) => (key < end).then_some(key),
        }
    }

    /// Whether the range extends to the key, which is not below its lower bound.
    pub(super) fn reaches(self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one,
            KeyRange::From(_) => true,
            KeyRange::Span(_, end) => key < end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_what_etcd_means() {
        let contained = |end: &[u8]| {
            let keys: [&[u8]; 4] = [b"a", b"b", b"bb", b"c"];
            keys.map(|key| KeyRange::new(b"b", end).contains(key))
        };
        assert_eq!(contained(b""), [false, true, false, false]);
        assert_eq!(contained(b"\0"), [false, true, true, true]);
        assert_eq!(contained(b"c"), [false, true, true, false]);
        assert_eq!(contained(b"a"), [false; 4]);
        assert_eq!(KeyRange::new(b"b", b"b").first(), None);
    }
}
