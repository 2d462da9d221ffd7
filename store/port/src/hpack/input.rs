//! The integers and strings that a header block is made of.

use std::ops::Range;

use super::decoder::DecodeError::{self, Malformed};
use super::huffman;

/// A string of a literal field.
pub(super) enum Text<'a> {
    /// As it is in the block.
    Plain(&'a [u8]),
    /// Decoded to this part of the scratch buffer, which may still move while the field is read.
    Decoded(Range<usize>),
}

impl<'a> Text<'a> {
    pub(super) fn bytes(&self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Decoded(range) => &scratch[range.clone()],
        }
    }
}

/// What is left of a header block.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn of(block: &'a [u8]) -> Input<'a> {
        Input { rest: block }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next byte, if it is one of these.
    pub(super) fn byte_in(&mut self, range: Range<u8>) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        if !range.contains(first) {
            return None;
        }
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// An integer (RFC 7541 5.1) of which `first`, already taken, has the lowest `prefix_bits`
    /// bits.
    #[inline]
    pub(super) fn integer(&mut self, first: u8, prefix_bits: u32) -> Result<usize, DecodeError> {
        let prefix_max = (1 << prefix_bits) - 1;
        match first & prefix_max {
            prefix if prefix < prefix_max => Ok(usize::from(prefix)),
            prefix => self.long_integer(usize::from(prefix)),
        }
    }

    /// The continuation of an integer: no more than four bytes, which nothing sensible needs more
    /// than.
    fn long_integer(&mut self, mut value: usize) -> Result<usize, DecodeError> {
        for shift in [0, 7, 14, 21] {
            let byte = self.byte().ok_or(Malformed)?;
            value += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A string (RFC 7541 5.2), decoded to the end of `scratch` if it is Huffman-coded.
    pub(super) fn text(&mut self, scratch: &mut Vec<u8>) -> Result<Text<'a>, DecodeError> {
        let first = self.byte().ok_or(Malformed)?;
        let len = self.integer(first, 7)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        if first < 0x80 {
            return Ok(Text::Plain(bytes));
        }
        let start = scratch.len();
        huffman::decode(bytes, scratch)?;
        Ok(Text::Decoded(start..scratch.len()))
    }
}
