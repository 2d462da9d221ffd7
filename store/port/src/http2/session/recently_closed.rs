//! The streams that the peer has closed last. A frame on them is an error (RFC 9113, 5.1), while
//! frames on streams that were reset here may be in flight.

const KEPT: usize = 32;

/// A ring of stream identifiers.
#[derive(Default)]
pub(super) struct RecentlyClosed {
    streams: [u32; KEPT],
    next: usize,
}

impl RecentlyClosed {
    pub(super) fn add(&mut self, stream: u32) {
        self.streams[self.next] = stream;
        self.next = (self.next + 1) % KEPT;
    }

    pub(super) fn has(&self, stream: u32) -> bool {
        self.streams.contains(&stream)
    }
}
