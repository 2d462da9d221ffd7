//! Reads frames, and joins those of one field block.

use super::payload::{Head, event, on_a_stream, unpadded};
use super::{
    CONTINUATION, ConnectionError, DATA, END_HEADERS, END_STREAM, ErrorCode, FIELD_BLOCK_BYTES_MAX,
    FRAME_HEADER_BYTES, Frame, HEADERS, MAX_FRAME_SIZE, PRIORITY, PRIORITY_BYTES,
};

/// Reads frames from a byte stream.
#[derive(Default)]
pub struct FrameReader {
    /// The beginning of a frame whose rest has not arrived.
    cut: Vec<u8>,
    /// A field block without END_HEADERS so far.
    open: Option<Box<Open>>,
}

/// The kind of an unfinished frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// A field block, or a frame other than DATA.
    Head,
    /// A DATA frame.
    Data,
}

struct Open {
    stream: u32,
    end: bool,
    block: Vec<u8>,
    /// The size with frame headers, so that empty frames count.
    taken: usize,
}

impl FrameReader {
    /// The unfinished frame or field block.
    pub fn partial(&self) -> Option<Partial> {
        if self.open.is_none() && self.cut.is_empty() {
            return None;
        }
        let kind = self.cut.get(3).filter(|_| self.open.is_none());
        Some(match kind {
            Some(&DATA) => Partial::Data,
            _ => Partial::Head,
        })
    }

    /// Passes all complete frames to `each`.
    ///
    /// # Errors
    /// The bytes are a connection error, or `each` returned one. The reader must not be used again.
    pub fn read(
        &mut self,
        arrived: &[u8],
        mut each: impl FnMut(Frame<'_>) -> Result<(), ConnectionError>,
    ) -> Result<(), ConnectionError> {
        if self.cut.is_empty() {
            let taken = self.whole(arrived, &mut each)?;
            self.cut.extend_from_slice(&arrived[taken..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.cut);
        joined.extend_from_slice(arrived);
        let taken = self.whole(&joined, &mut each)?;
        if taken < joined.len() {
            joined.drain(..taken);
            self.cut = joined;
        }
        Ok(())
    }

    fn whole(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Frame<'_>) -> Result<(), ConnectionError>,
    ) -> Result<usize, ConnectionError> {
        let mut at = 0;
        while let Some(head) = Head::of(&bytes[at..]) {
            if MAX_FRAME_SIZE < head.length {
                return Err(ConnectionError::new(
                    ErrorCode::FRAME_SIZE_ERROR,
                    "a frame is too large",
                ));
            }
            let after = at + FRAME_HEADER_BYTES + head.length;
            let Some(payload) = bytes.get(at + FRAME_HEADER_BYTES..after) else {
                break;
            };
            self.frame(&head, payload, each)?;
            at = after;
        }
        Ok(at)
    }

    fn frame(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut impl FnMut(Frame<'_>) -> Result<(), ConnectionError>,
    ) -> Result<(), ConnectionError> {
        if self.open.is_some() != (head.kind == CONTINUATION) {
            return Err(ConnectionError::protocol(
                "a block of fields is interrupted",
            ));
        }
        match head.kind {
            HEADERS => self.headers(head, payload, each),
            CONTINUATION => self.continuation(head, payload, each),
            _ => each(event(head, payload)?),
        }
    }

    fn headers(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut impl FnMut(Frame<'_>) -> Result<(), ConnectionError>,
    ) -> Result<(), ConnectionError> {
        on_a_stream(head)?;
        let block = match head.has(PRIORITY) {
            true => unpadded(head, payload)?.get(PRIORITY_BYTES..),
            false => Some(unpadded(head, payload)?),
        };
        let block = block.ok_or(ConnectionError::new(
            ErrorCode::FRAME_SIZE_ERROR,
            "no room for a priority",
        ))?;
        let (stream, end) = (head.stream, head.has(END_STREAM));
        if head.has(END_HEADERS) {
            return each(Frame::Headers { stream, end, block });
        }
        self.open = Some(Box::new(Open {
            stream,
            end,
            block: block.to_vec(),
            taken: FRAME_HEADER_BYTES + payload.len(),
        }));
        Ok(())
    }

    fn continuation(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut impl FnMut(Frame<'_>) -> Result<(), ConnectionError>,
    ) -> Result<(), ConnectionError> {
        let Some(mut open) = self.open.take().filter(|open| open.stream == head.stream) else {
            return Err(ConnectionError::protocol(
                "a block of fields goes on elsewhere",
            ));
        };
        open.taken += FRAME_HEADER_BYTES + payload.len();
        if FIELD_BLOCK_BYTES_MAX < open.taken {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "too many fields",
            ));
        }
        open.block.extend_from_slice(payload);
        if !head.has(END_HEADERS) {
            self.open = Some(open);
            return Ok(());
        }
        each(Frame::Headers {
            stream: open.stream,
            end: open.end,
            block: &open.block,
        })
    }
}
