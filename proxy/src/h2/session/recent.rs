//! Streams that the other end has ended, of late: whatever comes of them is an error (RFC 9113, 5.1). Of those
//! that we have ended something may be on its way.

const KEPT: usize = 32;

/// The latest ones.
#[derive(Default)]
pub(super) struct Recent {
    streams: [u32; KEPT],
    next: usize,
}

impl Recent {
    pub(super) fn add(&mut self, stream: u32) {
        self.streams[self.next] = stream;
        self.next = (self.next + 1) % KEPT;
    }

    pub(super) fn has(&self, stream: u32) -> bool {
        self.streams.contains(&stream)
    }
}
