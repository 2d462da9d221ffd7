//! Replaces one value in a header block and leaves the rest as it is, so that the peer's table and
//! the reader's stay alike.

use bytes::{BufMut, BytesMut};

use super::decoder::DecodeError;
use super::encoder::put_string;
use super::input::Input;

/// The block with another value of the first literal field whose name has this index in the static
/// table. The new value must be as long as the old one, so that the entry keeps the size that the
/// peer's encoder counts. `None`: there is no such field, the block is malformed, or `replace`
/// returns `None`.
pub(crate) fn replaced(
    block: &[u8],
    name: usize,
    replace: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<BytesMut> {
    let mut input = Input::of(block);
    let mut scratch = vec![];
    let (before, value) = loop {
        let index = read_name(&mut input, &mut scratch).ok()?;
        let Some(index) = index else { continue };
        let before = block.len() - input.left();
        scratch.clear();
        let value = input.text(&mut scratch).ok()?;
        if index == name {
            break (before, value);
        }
    };
    let old = value.bytes(&scratch);
    let new = replace(old)?;
    debug_assert_eq!(old.len(), new.len(), "the tables would differ");
    let mut replaced = BytesMut::with_capacity(block.len() + new.len());
    replaced.put_slice(&block[..before]);
    put_string(&mut replaced, &new);
    replaced.put_slice(&block[block.len() - input.left()..]);
    Some(replaced)
}

/// Reads up to a literal's value. Returns the place of its name in the tables, 0 when the name is a
/// literal, too; nothing when what was read has no literal value.
fn read_name(input: &mut Input<'_>, scratch: &mut Vec<u8>) -> Result<Option<usize>, DecodeError> {
    let first = input.byte().ok_or(DecodeError::Malformed)?;
    let prefix_bits = match first {
        // Name and value are in a table.
        0x80.. => {
            input.integer(first, 7)?;
            return Ok(None);
        }
        // Another size of the table.
        0x20..0x40 => {
            input.integer(first, 5)?;
            return Ok(None);
        }
        0x40.. => 6,
        _ => 4,
    };
    let index = input.integer(first, prefix_bits)?;
    if index == 0 {
        scratch.clear();
        input.text(scratch)?;
    }
    Ok(Some(index))
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::super::huffman::tests::encode;
    use super::*;

    const AUTHORITY: usize = 1;

    /// Slashes become dashes.
    fn mended(block: &[u8]) -> Option<BytesMut> {
        replaced(block, AUTHORITY, |value| {
            let dash = |byte: &u8| if *byte == b'/' { b'-' } else { *byte };
            value
                .contains(&b'/')
                .then(|| value.iter().map(dash).collect())
        })
    }

    #[track_caller]
    fn check(block: &[u8], expected: Option<&[u8]>) {
        assert_eq!(mended(block).as_deref(), expected);
    }

    #[test]
    fn one_value_is_replaced_and_the_rest_is_not() {
        check(b"\x83\x86\x41\x03a/b\x84", Some(b"\x83\x86\x41\x03a-b\x84"));
        check(b"\x83\x86\x41\x03a.b\x84", None);
        check(
            b"\x3f\xe1\x01\x01\x06a/1/2b",
            Some(b"\x3f\xe1\x01\x01\x06a-1-2b"),
        );
        check(b"\x40\x01x\x01/\x41\x01/", Some(b"\x40\x01x\x01/\x41\x01-"));
    }

    #[test]
    fn a_huffman_coded_one_is_replaced_by_plain_text_of_its_length() {
        let coded = encode(b"https://www.example.com");
        let length = u8::try_from(0x80 | coded.len()).unwrap();
        let block = [b"\x41", &[length][..], &coded, b"\x84"].concat();
        check(&block, Some(b"\x41\x17https:--www.example.com\x84"));
    }

    #[test]
    fn long_values_keep_their_length() {
        let block = [b"\x41\x7f\xad\x01", &[b'/'; 300][..], b"\x84"].concat();
        let expected = [b"\x41\x7f\xad\x01", &[b'-'; 300][..], b"\x84"].concat();
        check(&block, Some(&expected));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for block in [
            &b""[..],
            b"\x41",
            b"\x41\x05a/",
            b"\x41\xff\xff\xff\xff\xff",
            b"\x83",
        ] {
            check(block, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_reader_reads_the_same_but_for_that_value(block: Vec<u8>) {
            if let Some(mended) = mended(&block) {
                proptest::prop_assert_eq!(self::mended(&mended), None);
                let read = |block: &[u8]| {
                    let mut fields = vec![];
                    let decoded = Decoder::new(4096).decode(block, 1 << 16, |name, value, _| {
                        fields.push((name.to_vec(), value.len()));
                    });
                    (decoded, fields)
                };
                proptest::prop_assert_eq!(read(&mended), read(&block));
            }
        }
    }
}
