//! As much of DER (X.690) as keys and certificates take.

/// The tag of an integer.
pub const INTEGER: u8 = 0x02;
/// The tag of a bit string.
pub const BIT_STRING: u8 = 0x03;
/// The tag of an octet string.
pub const OCTET_STRING: u8 = 0x04;
/// The tag of an object identifier.
pub const OBJECT: u8 = 0x06;
/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;

/// The content of the element at the beginning, and what follows it; `None` for another tag or
/// damage.
pub fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if 0x80 <= length {
        let digits;
        (digits, rest) = rest.split_at_checked(length - 0x80)?;
        if digits.is_empty() || 4 < digits.len() {
            return None;
        }
        length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
    }
    rest.split_at_checked(length)
}

/// The bits of the bit string at the beginning, which are whole bytes.
pub fn bits(bytes: &[u8]) -> Option<&[u8]> {
    element(bytes, BIT_STRING)?.0.strip_prefix(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_lengths_are_no_elements() {
        let whole = [SEQUENCE, 2, 7, 8, 9];
        assert_eq!(element(&whole, SEQUENCE), Some((&[7, 8][..], &[9][..])));
        assert_eq!(element(&whole, INTEGER), None);
        for damaged in [
            &[SEQUENCE, 0x85, 1, 1, 1, 1, 1][..],
            // Of no stated length, which only BER has.
            &[SEQUENCE, 0x80, 0, 0],
            &[SEQUENCE, 3, 1, 2],
            &[SEQUENCE],
            &[],
        ] {
            assert_eq!(element(damaged, SEQUENCE), None, "{damaged:?}");
        }
    }
}
