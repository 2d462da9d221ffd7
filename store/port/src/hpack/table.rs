//! The static and the dynamic table of HPACK, which share one index space (RFC 7541 2.3).

use std::collections::VecDeque;

/// A name and a value.
pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

/// What an entry or a field counts for on top of its bytes (RFC 7541 4.1, RFC 9113 6.5.2).
pub(super) const FIELD_OVERHEAD: usize = 32;

/// The static table (RFC 7541 appendix A); the first entry has index 1.
pub(super) static STATIC: [Field<'static>; 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// One entry of the dynamic table: name and value in one allocation.
pub(super) struct Entry {
    bytes: Box<[u8]>,
    name_len: usize,
}

impl Entry {
    /// Copies name and value, so that neither keeps the table or the block borrowed.
    pub(super) fn new(name: &[u8], value: &[u8]) -> Entry {
        Entry {
            bytes: [name, value].concat().into_boxed_slice(),
            name_len: name.len(),
        }
    }

    #[inline]
    fn parts(&self) -> Field<'_> {
        self.bytes.split_at(self.name_len)
    }

    fn size(&self) -> usize {
        self.bytes.len() + FIELD_OVERHEAD
    }
}

/// Both tables behind one index; only the dynamic part takes memory, and none before its first
/// entry.
pub(super) struct Table {
    /// Newest first, which is the order of the indexes.
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Table {
    /// An empty dynamic table that may hold `bytes_max`, counted as RFC 7541 4.1 counts.
    pub(super) fn new(bytes_max: usize) -> Table {
        Table {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Name and value at `index`, or nothing for 0 and for an index beyond both tables.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<Field<'_>> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some(&field) => Some(field),
            None => self.entries.get(index - STATIC.len()).map(Entry::parts),
        }
    }

    /// Adds the entry as the newest and evicts the oldest ones to make room for it.
    pub(super) fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        // An entry that cannot fit is no error: it empties the table and is dropped (RFC 7541 4.4).
        self.evict_to(self.bytes_max.saturating_sub(size));
        if size <= self.bytes_max {
            self.bytes += size;
            self.entries.push_front(entry);
        }
    }

    /// Changes how much the dynamic table may hold.
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict_to(bytes_max);
    }

    fn evict_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.bytes -= oldest.size();
        }
    }

    /// What the dynamic table holds, newest first, and its size, for tests to compare.
    #[cfg(test)]
    pub(super) fn contents(&self) -> (Vec<Field<'_>>, usize) {
        (self.entries.iter().map(Entry::parts).collect(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_space_is_static_then_newest_first() {
        let mut table = Table::new(4096);
        table.insert(Entry::new(b"older", b"1"));
        table.insert(Entry::new(b"newer", b"2"));
        assert_eq!(table.get(0), None);
        for (position, &field) in STATIC.iter().enumerate() {
            assert_eq!(table.get(position + 1), Some(field));
        }
        assert_eq!(table.get(62), Some((&b"newer"[..], &b"2"[..])));
        assert_eq!(table.get(63), Some((&b"older"[..], &b"1"[..])));
        assert_eq!(table.get(64), None);
        assert_eq!(table.get(usize::MAX), None);
    }

    #[test]
    fn oldest_entries_make_room() {
        let mut table = Table::new(2 * (FIELD_OVERHEAD + 2));
        for name in [b"a", b"b", b"c"] {
            table.insert(Entry::new(name, b"1"));
        }
        let (fields, bytes) = table.contents();
        assert_eq!(fields, [(&b"c"[..], &b"1"[..]), (&b"b"[..], &b"1"[..])]);
        assert_eq!(bytes, 2 * (FIELD_OVERHEAD + 2));
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new(FIELD_OVERHEAD + 2);
        table.insert(Entry::new(b"a", b"1"));
        table.insert(Entry::new(b"a", b"12"));
        assert_eq!(table.contents(), (Vec::new(), 0));
        table.insert(Entry::new(b"a", b"1"));
        assert_eq!(table.contents().1, FIELD_OVERHEAD + 2);
    }

    #[test]
    fn a_smaller_table_keeps_the_newest() {
        let mut table = Table::new(4096);
        table.insert(Entry::new(b"older", b""));
        table.insert(Entry::new(b"newer", b""));
        table.set_bytes_max(FIELD_OVERHEAD + 5);
        assert_eq!(
            table.contents(),
            (vec![(&b"newer"[..], &b""[..])], FIELD_OVERHEAD + 5)
        );
        table.set_bytes_max(0);
        assert_eq!(table.contents(), (Vec::new(), 0));
    }
}
