//! The prefix of a gRPC message: a flag for compression and the length.

use bytes::{BufMut, BytesMut};

use super::Unreadable;

pub(super) const PREFIX_BYTES: usize = 5;

/// A prefix of which any part may have been received.
#[derive(Default)]
pub(super) struct PrefixReader {
    bytes: [u8; PREFIX_BYTES],
    received: usize,
}

impl PrefixReader {
    /// Takes bytes of the prefix. Returns how many, and the message's length once it is complete.
    ///
    /// # Errors
    /// The message is compressed, or the flag is none of gRPC's.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<(usize, Option<u32>), Unreadable> {
        let part = data.len().min(PREFIX_BYTES - self.received);
        self.bytes[self.received..self.received + part].copy_from_slice(&data[..part]);
        self.received += part;
        if 0 < self.received && self.bytes[0] != 0 {
            return Err(Unreadable);
        }
        if self.received < PREFIX_BYTES {
            return Ok((part, None));
        }
        self.received = 0;
        let [_, length @ ..] = self.bytes;
        Ok((part, Some(u32::from_be_bytes(length))))
    }
}

/// Writes a message with its prefix.
pub(super) fn put_message(out: &mut BytesMut, put: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_bytes(0, PREFIX_BYTES);
    put(out);
    let length = u32::try_from(out.len() - at - PREFIX_BYTES).unwrap_or(u32::MAX);
    out[at + 1..at + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}
