//! The content of rows in the `Key` table: `KeyValue` as protobuf, byte for byte as etcd writes it.

use bytes::{Bytes, BytesMut};
use keelson_proto::mvccpb::KeyValue;
use prost::Message;

use crate::engine::EngineError;

/// Encodes the row of a live key; response, engine and snapshot share it.
pub(super) fn encode(kv: &KeyValue) -> Bytes {
    let mut row = BytesMut::with_capacity(kv.encoded_len());
    kv.encode(&mut row).expect("the buffer has the room");
    row.freeze()
}

/// Encodes the row of a tombstone: only the key, as in etcd.
pub(super) fn encode_tombstone(key: Bytes) -> Bytes {
    encode(&KeyValue {
        key,
        ..KeyValue::default()
    })
}

/// Decodes a row; key and value share its bytes.
pub(super) fn decode(row: Bytes) -> Result<KeyValue, EngineError> {
    KeyValue::decode(row).map_err(|error| EngineError(format!("damaged row: {error}")))
}

/// The fields of a row that the index needs, without a copy of the value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Peek<'a> {
    pub(super) key: &'a [u8],
    pub(super) created: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
}

/// Reads those fields; `None` if the row is not a `KeyValue`.
pub(super) fn peek(mut row: &[u8]) -> Option<Peek<'_>> {
    let mut peek = Peek {
        key: &[],
        created: 0,
        version: 0,
        lease: 0,
    };
    while !row.is_empty() {
        let tag = varint(&mut row)?;
        match (tag >> 3, tag & 7) {
            (field, 0) => {
                let value = varint(&mut row)? as i64;
                match field {
                    2 => peek.created = value,
                    4 => peek.version = value,
                    6 => peek.lease = value,
                    _ => {}
                }
            }
            (field, 2) => {
                let len = usize::try_from(varint(&mut row)?).ok()?;
                let bytes = row.split_off(..len)?;
                if field == 1 {
                    peek.key = bytes;
                }
            }
            _ => return None,
        }
    }
    Some(peek)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peek_sees_what_decoding_sees() {
        let kv = KeyValue {
            key: Bytes::from_static(b"key"),
            create_revision: 7,
            mod_revision: i64::MAX,
            version: 300,
            value: Bytes::from(vec![1; 1000]),
            lease: -1,
        };
        let row = encode(&kv);
        let expected = Peek {
            key: b"key",
            created: 7,
            version: 300,
            lease: -1,
        };
        assert_eq!(peek(&row), Some(expected));
        assert_eq!(decode(row.clone()).expect("valid"), kv);
        assert_eq!(peek(&row[..row.len() - 20]), None);
    }
}
