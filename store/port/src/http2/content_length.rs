//! Checks bodies against their `content-length` (RFC 9113, 8.1.1).

use std::collections::HashMap;

/// The missing bytes, by stream.
#[derive(Default)]
pub struct ContentLengths(HashMap<u32, u64>);

impl ContentLengths {
    /// A stream has begun whose body has a `content-length`, in bytes.
    pub fn begin(&mut self, stream: u32, length: u64) {
        self.0.insert(stream, length);
    }

    /// A part of a body has been received. Returns whether it agrees with the `content-length`.
    pub fn are_kept(&mut self, stream: u32, bytes: usize, end: bool) -> bool {
        // Calls have no content-length.
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

    /// A stream has ended.
    pub fn forget(&mut self, stream: u32) {
        if !self.0.is_empty() {
            self.0.remove(&stream);
        }
    }

    /// Removes streams that were answered before their bodies ended.
    pub fn keep(&mut self, at_most: usize, is_there: impl Fn(u32) -> bool) {
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
        let mut lengths = ContentLengths::default();
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
