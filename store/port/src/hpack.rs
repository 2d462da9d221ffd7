//! Just enough of HPACK (RFC 7541) to find and replace one value in a block of header fields.

use http::uri::Authority;

/// `:authority`'s place in the static table.
const AUTHORITY: usize = 1;

/// The Huffman code of the printable characters, RFC 7541 appendix B: for each length in bits, the
/// characters in the order of their codes. The code is canonical, so that this is all of it.
const CODE: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// The block with a malformed `:authority` replaced. `None`: there is none, or it cannot be read.
pub(crate) fn mended(block: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader { block, at: 0 };
    loop {
        let name = match reader.first()? {
            // Indexed: name and value.
            0x80.. => {
                reader.integer(7)?;
                continue;
            }
            // A change of the table's size.
            0x20..=0x3f => {
                reader.integer(5)?;
                continue;
            }
            // A literal value, to be remembered or not.
            0x40..=0x7f => reader.integer(6)?,
            0x00..=0x1f => reader.integer(4)?,
        };
        if name == 0 {
            reader.string()?;
        }
        let value_at = reader.at;
        let value = reader.string()?;
        if name == AUTHORITY {
            let acceptable = acceptable(&value.text()?)?;
            return Some(replace(block, value_at..reader.at, &acceptable));
        }
    }
}

fn replace(block: &[u8], at: std::ops::Range<usize>, value: &[u8]) -> Vec<u8> {
    let mut replaced = block[..at.start].to_vec();
    put_length(&mut replaced, value.len());
    replaced.extend(value);
    replaced.extend(&block[at.end..]);
    replaced
}

/// A well-formed authority of the same length: the sender's table and ours must stay of one size.
/// `None`: it is well-formed as it is.
fn acceptable(authority: &[u8]) -> Option<Vec<u8>> {
    if authority.is_empty() || Authority::try_from(authority).is_ok() {
        return None;
    }
    let plain = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => *byte,
        _ => b'-',
    };
    Some(authority.iter().map(plain).collect())
}

/// A length in front of plain text: RFC 7541, 5.1 with a prefix of seven bits.
fn put_length(block: &mut Vec<u8>, length: usize) {
    if length < 0x7f {
        block.push(length as u8);
        return;
    }
    block.push(0x7f);
    let mut rest = length - 0x7f;
    while 0x80 <= rest {
        block.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    block.push(rest as u8);
}

struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

/// A value as it was sent.
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

impl<'a> Reader<'a> {
    fn first(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.first()?;
        self.at += 1;
        Some(byte)
    }

    /// RFC 7541, 5.1. No length or index in a frame needs more than two further bytes.
    fn integer(&mut self, prefix_bits: u32) -> Option<usize> {
        let mask = (1usize << prefix_bits) - 1;
        let mut value = usize::from(self.next()?) & mask;
        if value < mask {
            return Some(value);
        }
        for shift in [0, 7, 14] {
            let byte = usize::from(self.next()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Text<'a>> {
        let huffman = self.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        let bytes = self.block.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(Text { bytes, huffman })
    }
}

impl Text<'_> {
    /// `None`: not printable.
    fn text(&self) -> Option<Vec<u8>> {
        if !self.huffman {
            return Some(self.bytes.to_vec());
        }
        let mut text = Vec::new();
        let (mut code, mut bits) = (0u32, 0u32);
        for byte in self.bytes {
            for shift in (0..8).rev() {
                code = code << 1 | u32::from(byte >> shift & 1);
                bits += 1;
                if let Some(character) = character(code, bits) {
                    text.push(character);
                    (code, bits) = (0, 0);
                } else if CODE[CODE.len() - 1].0 <= bits {
                    return None;
                }
            }
        }
        // The last byte is filled up with ones, at most seven.
        let filled_up = bits < 8 && code == (1 << bits) - 1;
        filled_up.then_some(text)
    }
}

/// The character of a code of that many bits.
fn character(code: u32, bits: u32) -> Option<u8> {
    let (mut first, mut length) = (0, 0);
    for (code_bits, characters) in CODE {
        first <<= code_bits - length;
        length = code_bits;
        if code_bits == bits {
            let place = code.checked_sub(first)?;
            return characters.get(usize::try_from(place).ok()?).copied();
        }
        first += u32::try_from(characters.len()).expect("at most 256");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(block: &[u8], expected: Option<&[u8]>) {
        assert_eq!(mended(block).as_deref(), expected);
    }

    #[test]
    fn huffman_as_in_the_standards_examples() {
        // RFC 7541, C.4.1 and C.6.1.
        let cases: [(&[u8], &str); 3] = [
            (
                b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                "www.example.com",
            ),
            (
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
                "https://www.example.com",
            ),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\
                  \x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ];
        for (bytes, expected) in cases {
            let text = Text {
                bytes,
                huffman: true,
            };
            assert_eq!(text.text().unwrap(), expected.as_bytes());
        }
    }

    #[test]
    fn a_malformed_authority_is_replaced_and_the_rest_is_not() {
        check(b"\x83\x86\x41\x03a/b\x84", Some(b"\x83\x86\x41\x03a-b\x84"));
        check(b"\x83\x86\x41\x03a.b\x84", None);
        check(b"\x01\x06a:1:2b", Some(b"\x01\x06a-1-2b"));
        check(b"\x40\x01x\x01y\x41\x01#", Some(b"\x40\x01x\x01y\x41\x01-"));
    }

    #[test]
    fn a_huffman_coded_one_is_replaced_by_plain_text_of_its_length() {
        let url = b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
        let block = [b"\x41\x91", &url[..], b"\x84"].concat();
        check(&block, Some(b"\x41\x17https---www.example.com\x84"));
    }

    #[test]
    fn long_values_keep_their_length() {
        let long = [b'/'; 300];
        let block = [b"\x41\x7f\xad\x01", &long[..], b"\x84"].concat();
        let expected = [b"\x41\x7f\xad\x01", &[b'-'; 300][..], b"\x84"].concat();
        check(&block, Some(&expected));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for block in [
            &b""[..],
            b"\x41",
            b"\x41\x05a/",
            b"\x41\xff\xff\xff\xff",
            b"\x83",
        ] {
            check(block, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_arrives_is_survived_and_mended_once(block: Vec<u8>) {
            if let Some(mended) = mended(&block) {
                proptest::prop_assert_eq!(super::mended(&mended), None);
            }
        }
    }
}
