//! As much of DER as keys take.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// The content of the element at the beginning, and what follows it; `None` for another tag or
/// damage.
pub(super) fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
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
pub(super) fn bits(bytes: &[u8]) -> Option<&[u8]> {
    element(bytes, BIT_STRING)?.0.strip_prefix(&[0])
}
