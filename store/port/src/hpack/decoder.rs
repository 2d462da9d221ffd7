//! Reads HPACK header blocks and keeps the dynamic table that the peer's encoder relies on. Fields
//! are lent to the caller where they lie, since nearly all of them are in the table already.

use super::input::Input;
use super::table::{Entry, FIELD_OVERHEAD, Table};

/// What a peer may assume of the dynamic table before it has seen our settings (RFC 9113 6.5.2).
const TABLE_BYTES_DEFAULT: usize = 4096;

/// A scratch buffer larger than this is given back after the block, as there are thousands of
/// decoders.
const SCRATCH_BYTES_KEPT: usize = 4096;

/// Why a field block could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The block breaks the rules; the table can no longer be the peer's, so the connection is
    /// lost.
    #[error("malformed header block")]
    Malformed,
    /// The list is larger than allowed; the table is right and the connection can go on.
    #[error("header list too large")]
    TooLarge,
}

use DecodeError::{Malformed, TooLarge};

/// The decoder of one connection.
pub struct Decoder {
    table: Table,
    table_bytes_max: usize,
    /// Where Huffman-coded strings of the current field are decoded to.
    scratch: Vec<u8>,
}

impl Decoder {
    /// `table_bytes_max` is our SETTINGS_HEADER_TABLE_SIZE, above which the peer must not set the
    /// table.
    pub fn new(table_bytes_max: usize) -> Decoder {
        Decoder {
            // Before a peer has our settings it uses the default. A table that is larger than the
            // peer's does no harm, since indexes count from the newest entry.
            table: Table::new(table_bytes_max.max(TABLE_BYTES_DEFAULT)),
            table_bytes_max,
            scratch: Vec::new(),
        }
    }

    /// Calls `each(name, value, sensitive)` for every field in order, `sensitive` being a "never
    /// indexed" one.
    ///
    /// A list of more than `list_bytes_max` is `TooLarge`: the fields beyond are not passed on, but
    /// they are read, so that the table stays right. After `Malformed` the decoder must not be used
    /// again.
    pub fn decode(
        &mut self,
        block: &[u8],
        list_bytes_max: usize,
        each: impl FnMut(&[u8], &[u8], bool),
    ) -> Result<(), DecodeError> {
        let mut list = List {
            each,
            bytes_left: Some(list_bytes_max),
        };
        let read = self.read_block(Input::of(block), &mut list);
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        read?;
        list.bytes_left.map(|_| ()).ok_or(TooLarge)
    }

    fn read_block<F>(&mut self, mut input: Input<'_>, list: &mut List<F>) -> Result<(), DecodeError>
    where
        F: FnMut(&[u8], &[u8], bool),
    {
        self.read_size_updates(&mut input)?;
        while let Some(first) = input.byte() {
            match first {
                0x80.. => {
                    let index = input.integer(first, 7)?;
                    let (name, value) = self.table.get(index).ok_or(Malformed)?;
                    list.add(name, value, false);
                }
                0x40.. => self.read_literal(&mut input, first, Literal::Indexed, list)?,
                // A size update, which is allowed before the first field only (RFC 7541 4.2).
                0x20.. => return Err(Malformed),
                0x10.. => self.read_literal(&mut input, first, Literal::Sensitive, list)?,
                _ => self.read_literal(&mut input, first, Literal::Plain, list)?,
            }
        }
        Ok(())
    }

    fn read_size_updates(&mut self, input: &mut Input<'_>) -> Result<(), DecodeError> {
        while let Some(first) = input.byte_in(0x20..0x40) {
            let bytes_max = input.integer(first, 5)?;
            if bytes_max > self.table_bytes_max {
                return Err(Malformed);
            }
            self.table.set_bytes_max(bytes_max);
        }
        Ok(())
    }

    fn read_literal<F>(
        &mut self,
        input: &mut Input<'_>,
        first: u8,
        literal: Literal,
        list: &mut List<F>,
    ) -> Result<(), DecodeError>
    where
        F: FnMut(&[u8], &[u8], bool),
    {
        self.scratch.clear();
        let index = match literal {
            Literal::Indexed => input.integer(first, 6)?,
            Literal::Plain | Literal::Sensitive => input.integer(first, 4)?,
        };
        let name = match index {
            0 => Some(input.text(&mut self.scratch)?),
            _ => None,
        };
        let value = input.text(&mut self.scratch)?;
        let name = match &name {
            Some(name) => name.bytes(&self.scratch),
            None => self.table.get(index).ok_or(Malformed)?.0,
        };
        let value = value.bytes(&self.scratch);
        list.add(name, value, matches!(literal, Literal::Sensitive));
        if matches!(literal, Literal::Indexed) {
            // Copied before there is room for it: the name may be in an entry that makes the room.
            let entry = Entry::new(name, value);
            self.table.insert(entry);
        }
        Ok(())
    }
}

/// The representation of a literal field (RFC 7541, 6.2).
#[derive(Clone, Copy)]
enum Literal {
    Indexed,
    Plain,
    Sensitive,
}

/// The header list so far.
struct List<F> {
    each: F,
    /// Nothing once a field was too much.
    bytes_left: Option<usize>,
}

impl<F: FnMut(&[u8], &[u8], bool)> List<F> {
    /// Passes the field on if the list may still grow by it.
    #[inline]
    fn add(&mut self, name: &[u8], value: &[u8], sensitive: bool) {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.bytes_left = self.bytes_left.and_then(|left| left.checked_sub(size));
        if self.bytes_left.is_some() {
            (self.each)(name, value, sensitive);
        }
    }
}

#[cfg(test)]
mod tests;
