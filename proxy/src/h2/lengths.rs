//! Bodies whose length was said before (RFC 9113, 8.1.1).

use std::collections::HashMap;

/// How much is still to come of them, by stream.
#[derive(Default)]
pub(super) struct Lengths(HashMap<u32, u64>);

impl Lengths {
    pub(super) fn begin(&mut self, stream: u32, length: u64) {
        self.0.insert(stream, length);
    }

    /// Some of a stream's body has come. Returns whether that is as it was said.
    pub(super) fn are_kept(&mut self, stream: u32, bytes: usize, end: bool) -> bool {
        // Calls say no length.
        if self.0.is_empty() {
            return true;
        }
        let Some(left) = self.0.get_mut(&stream) else {
            return true;
        };
        let rest = left.checked_sub(bytes as u64);
        *left = rest.unwrap_or_default();
        let wrong = rest.is_none() || end && rest != Some(0);
        if end || wrong {
            self.0.remove(&stream);
        }
        !wrong
    }

    pub(super) fn forget(&mut self, stream: u32) {
        if !self.0.is_empty() {
            self.0.remove(&stream);
        }
    }

    /// Streams may have been answered before their bodies had come.
    pub(super) fn keep(&mut self, at_most: usize, is_there: impl Fn(u32) -> bool) {
        if at_most < self.0.len() {
            self.0.retain(|stream, _| is_there(*stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_was_said() {
        let mut lengths = Lengths::default();
        for (parts, end_is_kept) in [(&[3, 2][..], true), (&[4], false), (&[], false)] {
            lengths.begin(1, 5);
            for part in parts {
                assert!(lengths.are_kept(1, *part, false));
            }
            assert_eq!(lengths.are_kept(1, 0, true), end_is_kept, "{parts:?}");
        }
        lengths.begin(3, 5);
        assert!(!lengths.are_kept(3, 6, false));
        assert!(lengths.are_kept(5, 100, true));
        lengths.begin(7, 5);
        lengths.keep(0, |stream| stream != 7);
        assert!(lengths.0.is_empty());
    }
}
