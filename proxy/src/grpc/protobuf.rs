//! Protocol buffers' wire format: fields of a message in memory, and of one that comes in parts.

use bytes::{BufMut, BytesMut};

use super::Unreadable;

/// Wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// The deepest nesting that is read: the key-value pair of an event of a response.
const DEPTH_MAX: usize = 3;

/// The value of a field; others than these two kinds are skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, up to the first error.
pub(super) struct MessageFields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for MessageFields<'a> {
    type Item = Result<(u64, Value<'a>), Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.field().transpose() {
                None => {}
                Some(Ok(found)) => return Some(Ok(found)),
                Some(Err(error)) => {
                    self.0 = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<'a> MessageFields<'a> {
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Unreadable> {
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Varint(self.varint()?),
            LENGTH => {
                let length = usize::try_from(self.varint()?).map_err(|_| Unreadable)?;
                Value::Bytes(self.bytes(length)?)
            }
            FIXED_64 => return self.bytes(8).map(|_| None),
            FIXED_32 => return self.bytes(4).map(|_| None),
            _ => return Err(Unreadable),
        };
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, Unreadable> {
        let mut varint = Varint::default();
        loop {
            let [byte] = *self.bytes(1)? else {
                return Err(Unreadable);
            };
            if let Some(value) = varint.add(byte)? {
                return Ok(value);
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// A variable-length integer of which a part has been received.
#[derive(Default)]
struct Varint {
    value: u64,
    shift: u32,
}

impl Varint {
    fn add(&mut self, byte: u8) -> Result<Option<u64>, Unreadable> {
        if u64::BITS <= self.shift {
            return Err(Unreadable);
        }
        self.value |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        let ends = byte & 0x80 == 0;
        Ok(ends.then(|| std::mem::take(self).value))
    }
}

/// What is made of the fields of a message that comes in parts.
pub(super) trait Visitor {
    /// Whether the message in this field is read; `path`: the fields around it, and itself.
    fn enters(&mut self, path: &[u64]) -> bool;

    /// A number was received.
    fn varint(&mut self, path: &[u64], value: u64);
}

/// Reads a message that comes in parts, and keeps none of it.
#[derive(Default)]
pub(super) struct Scanner {
    /// The bytes that are left of each open message, the outermost first.
    left: [u64; DEPTH_MAX],
    /// The fields that lead to the open messages, then the current field.
    path: [u64; DEPTH_MAX],
    /// The number of open messages.
    depth: usize,
    state: ScanState,
    varint: Varint,
}

#[derive(Clone, Copy, Default)]
enum ScanState {
    #[default]
    Key,
    Number,
    Length,
    Skip(u64),
}

impl Scanner {
    /// A message of so many bytes begins.
    pub(super) fn begin(&mut self, length: u64) {
        *self = Scanner::default();
        self.left[0] = length;
        self.depth = usize::from(0 < length);
    }

    /// Whether the message has ended.
    pub(super) fn is_over(&self) -> bool {
        self.depth == 0
    }

    /// Takes bytes up to the end of the message. Returns how many.
    ///
    /// # Errors
    /// They are no message.
    pub(super) fn read(
        &mut self,
        data: &[u8],
        visitor: &mut impl Visitor,
    ) -> Result<usize, Unreadable> {
        let mut at = 0;
        while at < data.len() && !self.is_over() {
            if let ScanState::Skip(left) = self.state {
                let part = left.min((data.len() - at) as u64);
                self.state = match left - part {
                    0 => ScanState::Key,
                    left => ScanState::Skip(left),
                };
                at += part as usize;
                self.consume(part)?;
            } else {
                at += 1;
                let value = self.varint.add(data[at - 1])?;
                self.consume(1)?;
                if let Some(value) = value {
                    self.value(value, visitor)?;
                }
            }
            self.leave()?;
        }
        Ok(at)
    }

    fn consume(&mut self, bytes: u64) -> Result<(), Unreadable> {
        for left in &mut self.left[..self.depth] {
            *left = left.checked_sub(bytes).ok_or(Unreadable)?;
        }
        Ok(())
    }

    fn value(&mut self, value: u64, visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        let path = &self.path[..self.depth];
        self.state = match self.state {
            ScanState::Key => {
                self.path[self.depth - 1] = value >> 3;
                match value & 7 {
                    VARINT => ScanState::Number,
                    LENGTH => ScanState::Length,
                    FIXED_64 => ScanState::Skip(8),
                    FIXED_32 => ScanState::Skip(4),
                    _ => return Err(Unreadable),
                }
            }
            ScanState::Number => {
                visitor.varint(path, value);
                ScanState::Key
            }
            ScanState::Length if value == 0 => {
                visitor.enters(path);
                ScanState::Key
            }
            ScanState::Length if visitor.enters(path) && self.depth < DEPTH_MAX => {
                self.left[self.depth] = value;
                self.depth += 1;
                ScanState::Key
            }
            ScanState::Length | ScanState::Skip(_) => ScanState::Skip(value),
        };
        Ok(())
    }

    /// Closes the messages that have ended.
    fn leave(&mut self) -> Result<(), Unreadable> {
        while 0 < self.depth && self.left[self.depth - 1] == 0 {
            // A message ends between two fields.
            if !matches!(self.state, ScanState::Key) || self.varint.shift != 0 {
                return Err(Unreadable);
            }
            self.depth -= 1;
        }
        Ok(())
    }
}

/// Writes a field with a number, unless it has the default value.
pub(super) fn put_number(out: &mut BytesMut, field: u64, value: u64) {
    if value != 0 {
        put_varint(out, field << 3 | VARINT);
        put_varint(out, value);
    }
}

/// Writes a field with a message of two parts.
pub(super) fn put_bytes(out: &mut BytesMut, field: u64, parts: [&[u8]; 2]) {
    put_varint(out, field << 3 | LENGTH);
    put_varint(out, parts.iter().map(|part| part.len() as u64).sum());
    for part in parts {
        out.put_slice(part);
    }
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while 0x7f < value {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
