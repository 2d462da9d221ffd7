//! Any bytes as header blocks of one connection: what is read can be written, and is read the same.

use bytes::BytesMut;
use keelson_port::hpack::{DecodeError, Decoder, put_field};

/// Of a block's fields.
const LIST_BYTES_MAX: usize = 64 * 1024;

/// RFC 7541, 4.1.
const FIELD_OVERHEAD: usize = 32;

type Field = (Vec<u8>, Vec<u8>, bool);

/// The target. Each block is preceded by its length in one byte.
pub fn run(mut bytes: &[u8]) {
    let mut decoder = Decoder::new(4096);
    while let Some((length, rest)) = bytes.split_first() {
        let (block, after) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = after;
        let mut fields = vec![];
        match read(&mut decoder, block, &mut fields) {
            // The connection ends.
            Err(DecodeError::Malformed) => return,
            Err(DecodeError::TooLarge) | Ok(()) => {}
        }
        let size = |(name, value, _): &Field| name.len() + value.len() + FIELD_OVERHEAD;
        assert!(fields.iter().map(size).sum::<usize>() <= LIST_BYTES_MAX);
        let mut written = BytesMut::new();
        for (name, value, sensitive) in &fields {
            put_field(&mut written, name, value, *sensitive);
        }
        let mut again = vec![];
        // What a decoder has stored before does not matter for what is written without a table.
        read(&mut Decoder::new(0), &written, &mut again).expect("what was written");
        assert_eq!(again, fields);
    }
}

fn read(decoder: &mut Decoder, block: &[u8], fields: &mut Vec<Field>) -> Result<(), DecodeError> {
    decoder.decode(block, LIST_BYTES_MAX, |name, value, sensitive| {
        fields.push((name.to_vec(), value.to_vec(), sensitive));
    })
}
