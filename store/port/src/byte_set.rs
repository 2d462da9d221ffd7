//! Sets of bytes: one load a byte where a search through a list costs the list's length.

/// Bytes that a field of a protocol may consist of.
#[derive(Clone, Copy)]
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    /// ASCII letters and digits, and `others`.
    pub(crate) const fn alphanumeric_and(others: &[u8]) -> ByteSet {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            set[byte as usize] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            set[others[at] as usize] = true;
            at += 1;
        }
        ByteSet(set)
    }

    /// Whether the set has the byte.
    pub(crate) const fn contains(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_its_bytes_and_no_others() {
        const SET: ByteSet = ByteSet::alphanumeric_and(b"-~");
        for byte in 0..=255_u8 {
            let expected = byte.is_ascii_alphanumeric() || b"-~".contains(&byte);
            assert_eq!(SET.contains(byte), expected, "{byte}");
        }
    }
}
