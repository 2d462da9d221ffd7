//! The keys of rows: etcd's revision keys.
//!
//! A revision key has 17 bytes: main revision, `_`, sub revision, both big endian. So rows lie in
//! the order of their revisions. A tombstone's key has `t` as 18th byte.

/// The length of a live row's key, in bytes.
pub(super) const LIVE_BYTES: usize = 17;
/// The length of a tombstone's key, in bytes.
pub(super) const TOMBSTONE_BYTES: usize = 18;

/// The key of a row: the main revision of its transaction, and its position in the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The store revision of the transaction.
    pub main: i64,
    /// The position within the transaction, from 0.
    pub sub: u32,
    /// Whether the row is a tombstone: the key was deleted.
    pub tombstone: bool,
}

impl RowKey {
    /// The bytes, and their number.
    pub fn encode(&self) -> ([u8; TOMBSTONE_BYTES], usize) {
        let mut bytes = [0; TOMBSTONE_BYTES];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..17].copy_from_slice(&i64::from(self.sub).to_be_bytes());
        bytes[17] = b't';
        let len = if self.tombstone {
            TOMBSTONE_BYTES
        } else {
            LIVE_BYTES
        };
        (bytes, len)
    }

    /// Decodes a key; `None` if no such key is ever written.
    pub fn decode(bytes: &[u8]) -> Option<RowKey> {
        let tombstone = match bytes.len() {
            LIVE_BYTES => false,
            TOMBSTONE_BYTES if bytes[17] == b't' => true,
            _ => return None,
        };
        let word = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        (bytes[8] == b'_').then_some(())?;
        Some(RowKey {
            main: word(0),
            sub: u32::try_from(word(9)).ok()?,
            tombstone,
        })
    }

    /// The least key of a main revision.
    pub fn first_of(main: i64) -> RowKey {
        RowKey {
            main,
            sub: 0,
            tombstone: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_sort_as_their_bytes_do() {
        let key = |main, sub, tombstone| RowKey {
            main,
            sub,
            tombstone,
        };
        let keys = [
            key(1, 0, false),
            key(2, 0, true),
            key(2, 1, false),
            key(256, 300, true),
        ];
        let encoded = keys.map(|key| {
            let (bytes, len) = key.encode();
            assert_eq!(RowKey::decode(&bytes[..len]), Some(key));
            bytes[..len].to_vec()
        });
        assert!(encoded.is_sorted());
        assert!(keys.is_sorted());
    }

    #[test]
    fn other_bytes_are_no_keys() {
        assert_eq!(RowKey::decode(b""), None);
        assert_eq!(RowKey::decode(&[0; 17]), None);
        let (mut bytes, _) = RowKey::first_of(1).encode();
        bytes[17] = b'x';
        assert_eq!(RowKey::decode(&bytes), None);
    }
}
