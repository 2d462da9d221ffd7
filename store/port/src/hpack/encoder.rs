//! Writes header fields as HPACK without the dynamic table and without Huffman coding: nothing to
//! keep per connection, and a field is written in one pass over its bytes.

use bytes::{BufMut, BytesMut};

/// Room for the first byte of a field and the lengths of two strings, for the usual field.
const FIELD_PREFIX_BYTES: usize = 8;

/// Appends one field: an indexed field if the static table has it, otherwise a literal without
/// indexing.
///
/// A sensitive field is always a "never indexed" literal (RFC 7541, 6.2.3).
pub fn put_field(block: &mut BytesMut, name: &[u8], value: &[u8], sensitive: bool) {
    let name_index = static_name(name);
    if !sensitive && let Some(index) = name_index.and_then(|index| static_field(index, value)) {
        block.put_u8(0x80 | index);
        return;
    }
    block.reserve(name.len() + value.len() + FIELD_PREFIX_BYTES);
    let kind = match sensitive {
        true => 0x10,
        false => 0x00,
    };
    match name_index {
        Some(index) => put_integer(block, kind, 4, usize::from(index)),
        None => {
            block.put_u8(kind);
            put_string(block, name);
        }
    }
    put_string(block, value);
}

pub(super) fn put_string(block: &mut BytesMut, text: &[u8]) {
    put_integer(block, 0x00, 7, text.len());
    block.put_slice(text);
}

/// Appends an integer (RFC 7541 5.1) whose first byte has `flags` above `prefix_bits` bits of the
/// value.
fn put_integer(block: &mut BytesMut, flags: u8, prefix_bits: u32, value: usize) {
    let prefix_max = (1_u8 << prefix_bits) - 1;
    if let Ok(small) = u8::try_from(value)
        && small < prefix_max
    {
        block.put_u8(flags | small);
        return;
    }
    block.put_u8(flags | prefix_max);
    let mut rest = value - usize::from(prefix_max);
    while rest >= 0x80 {
        // The mask leaves seven bits, so the cast loses nothing.
        block.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    // The loop has left less than 0x80.
    block.put_u8(rest as u8);
}

/// The index of the static entry that has this value too, given the first index that has the name.
fn static_field(name_index: u8, value: &[u8]) -> Option<u8> {
    match (name_index, value) {
        (2, b"GET") => Some(2),
        (2, b"POST") => Some(3),
        (4, b"/") => Some(4),
        (4, b"/index.html") => Some(5),
        (6, b"http") => Some(6),
        (6, b"https") => Some(7),
        (8, b"200") => Some(8),
        (8, b"204") => Some(9),
        (8, b"206") => Some(10),
        (8, b"304") => Some(11),
        (8, b"400") => Some(12),
        (8, b"404") => Some(13),
        (8, b"500") => Some(14),
        (16, b"gzip, deflate") => Some(16),
        (2 | 4 | 6 | 8 | 16, _) => None,
        (_, b"") => Some(name_index),
        _ => None,
    }
}

/// The first index of the static table that has this name.
fn static_name(name: &[u8]) -> Option<u8> {
    match name.len() {
        ..=10 => static_name_short(name),
        _ => static_name_long(name),
    }
}

/// `static_name` for up to ten bytes, by length so that the length decides first.
fn static_name_short(name: &[u8]) -> Option<u8> {
    Some(match name {
        b"age" => 21,
        b"via" => 60,
        b"date" => 33,
        b"etag" => 34,
        b"from" => 37,
        b"host" => 38,
        b"link" => 45,
        b"vary" => 59,
        b":path" => 4,
        b"allow" => 22,
        b"range" => 50,
        b"accept" => 19,
        b"cookie" => 32,
        b"expect" => 35,
        b"server" => 54,
        b":method" => 2,
        b":scheme" => 6,
        b":status" => 8,
        b"expires" => 36,
        b"referer" => 51,
        b"refresh" => 52,
        b"if-match" => 39,
        b"if-range" => 42,
        b"location" => 46,
        b":authority" => 1,
        b"set-cookie" => 55,
        b"user-agent" => 58,
        _ => return None,
    })
}

/// `static_name` for more than ten bytes, by length so that the length decides first.
fn static_name_long(name: &[u8]) -> Option<u8> {
    Some(match name {
        b"retry-after" => 53,
        b"content-type" => 31,
        b"max-forwards" => 47,
        b"accept-ranges" => 18,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-range" => 30,
        b"if-none-match" => 41,
        b"last-modified" => 44,
        b"accept-charset" => 15,
        b"content-length" => 28,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-location" => 29,
        b"www-authenticate" => 61,
        b"if-modified-since" => 40,
        b"transfer-encoding" => 57,
        b"proxy-authenticate" => 48,
        b"content-disposition" => 25,
        b"if-unmodified-since" => 43,
        b"proxy-authorization" => 49,
        b"strict-transport-security" => 56,
        b"access-control-allow-origin" => 20,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Decoder, table::STATIC};
    use super::*;

    type Field = (Vec<u8>, Vec<u8>, bool);

    fn put(name: &[u8], value: &[u8], sensitive: bool) -> Vec<u8> {
        let mut block = BytesMut::new();
        put_field(&mut block, name, value, sensitive);
        block.to_vec()
    }

    fn decoded(block: &[u8]) -> Vec<Field> {
        let mut fields = Vec::new();
        Decoder::new(0)
            .decode(block, usize::MAX, |name, value, sensitive| {
                fields.push((name.to_vec(), value.to_vec(), sensitive));
            })
            .expect("what the encoder writes is well formed");
        fields
    }

    #[test]
    fn every_static_field_is_one_byte_and_comes_back() {
        for (position, &(name, value)) in STATIC.iter().enumerate() {
            let index = u8::try_from(position + 1).expect("there are 61 entries");
            let block = put(name, value, false);
            assert_eq!(block, [0x80 | index]);
            assert_eq!(decoded(&block), [(name.to_vec(), value.to_vec(), false)]);
        }
    }

    #[test]
    fn every_static_name_is_indexed_and_comes_back() {
        for &(name, _) in &STATIC {
            let first = STATIC.iter().position(|entry| entry.0 == name);
            let index = first.expect("the name is from this table") + 1;
            assert_eq!(static_name(name).map(usize::from), Some(index));
            for sensitive in [false, true] {
                let block = put(name, b"other", sensitive);
                assert!(block.len() <= 2 + 1 + 5);
                let field = (name.to_vec(), b"other".to_vec(), sensitive);
                assert_eq!(decoded(&block), [field]);
            }
        }
    }

    #[test]
    fn fields_are_written_byte_for_byte() {
        assert_eq!(put(b":method", b"PUT", false), b"\x02\x03PUT");
        assert_eq!(put(b":method", b"GET", true), b"\x12\x03GET");
        assert_eq!(put(b"te", b"trailers", false), b"\x00\x02te\x08trailers");
        assert_eq!(put(b"x", b"", true), b"\x10\x01x\x00");
        assert_eq!(
            put(b"content-type", b"application/grpc", false),
            b"\x0f\x10\x10application/grpc"
        );
        let long = [b'v'; 127 + 300];
        assert_eq!(put(b"x", &long, false)[..6], *b"\x00\x01x\x7f\xac\x02");
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::sample::select(&STATIC[..]).prop_map(|(name, _)| name.to_vec()),
            prop::collection::vec(any::<u8>(), 0..40),
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::sample::select(&STATIC[..]).prop_map(|(_, value)| value.to_vec()),
            prop::collection::vec(any::<u8>(), 0..400),
        ]
    }

    proptest! {
        #[test]
        fn fields_come_back(
            fields in prop::collection::vec((name(), value(), any::<bool>()), 0..12),
        ) {
            let mut block = BytesMut::new();
            for (name, value, sensitive) in &fields {
                put_field(&mut block, name, value, *sensitive);
            }
            prop_assert_eq!(decoded(&block), fields);
        }
    }
}
