//! Frames are taken off what arrives: where they end, and which of them are one block of fields.

use super::payload::{Head, event, on_a_stream, unpadded};
use super::{
    BLOCK_BYTES_MAX, CONTINUATION, Code, DATA, END_HEADERS, END_STREAM, Event, FRAME_BYTES_MAX,
    Fault, HEAD_BYTES, HEADERS, PRIORITY, PRIORITY_BYTES,
};

/// Takes frames off what arrives.
#[derive(Default)]
pub(in crate::h2) struct Frames {
    /// Of the next frame, what a read had at its end.
    cut: Vec<u8>,
    /// A block of fields whose end has not come.
    open: Option<Box<Open>>,
}

/// What has begun to arrive and is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::h2) enum Partial {
    /// A block of fields, or a frame of anything but data.
    Head,
    Data,
}

struct Open {
    stream: u32,
    end: bool,
    block: Vec<u8>,
    /// Heads included: empty frames are counted too.
    taken: usize,
}

impl Frames {
    /// What is begun and not whole.
    pub(in crate::h2) fn partial(&self) -> Option<Partial> {
        if self.open.is_none() && self.cut.is_empty() {
            return None;
        }
        let kind = self.cut.get(3).filter(|_| self.open.is_none());
        Some(match kind {
            Some(&DATA) => Partial::Data,
            _ => Partial::Head,
        })
    }

    /// Hands on all that is whole.
    pub(in crate::h2) fn take(
        &mut self,
        arrived: &[u8],
        mut each: impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
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
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(head) = Head::of(&bytes[at..]) {
            if FRAME_BYTES_MAX < head.length {
                return Err(Fault::new(Code::FRAME_SIZE_ERROR, "a frame is too large"));
            }
            let after = at + HEAD_BYTES + head.length;
            let Some(payload) = bytes.get(at + HEAD_BYTES..after) else {
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
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.open.is_some() != (head.kind == CONTINUATION) {
            return Err(Fault::protocol("a block of fields is interrupted"));
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
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        on_a_stream(head)?;
        let block = match head.has(PRIORITY) {
            true => unpadded(head, payload)?.get(PRIORITY_BYTES..),
            false => Some(unpadded(head, payload)?),
        };
        let block = block.ok_or(Fault::new(Code::FRAME_SIZE_ERROR, "no room for a priority"))?;
        let (stream, end) = (head.stream, head.has(END_STREAM));
        if head.has(END_HEADERS) {
            return each(Event::Headers { stream, end, block });
        }
        self.open = Some(Box::new(Open {
            stream,
            end,
            block: block.to_vec(),
            taken: HEAD_BYTES + payload.len(),
        }));
        Ok(())
    }

    fn continuation(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut impl FnMut(Event<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Some(mut open) = self.open.take().filter(|open| open.stream == head.stream) else {
            return Err(Fault::protocol("a block of fields goes on elsewhere"));
        };
        open.taken += HEAD_BYTES + payload.len();
        if BLOCK_BYTES_MAX < open.taken {
            return Err(Fault::new(Code::ENHANCE_YOUR_CALM, "too many fields"));
        }
        open.block.extend_from_slice(payload);
        if !head.has(END_HEADERS) {
            self.open = Some(open);
            return Ok(());
        }
        each(Event::Headers {
            stream: open.stream,
            end: open.end,
            block: &open.block,
        })
    }
}
