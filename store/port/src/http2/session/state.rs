//! Helpers that run while a session is locked.

use bytes::BytesMut;

use super::data_writer::DataWriter;
use super::small_frames::BlockedOn;
use super::{Owner, State, Stream};

impl<O: Owner> State<O> {
    pub(super) fn put(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if !self.closed {
            put(&mut self.out);
            self.wake();
        }
    }

    /// The same, for a writer that needs the state as well.
    pub(super) fn put_with(&mut self, put: impl FnOnce(&mut BytesMut, &mut State<O>)) {
        let mut out = std::mem::take(&mut self.out);
        if !self.closed {
            put(&mut out, self);
            self.wake();
        }
        self.out = out;
    }

    /// Whether the peer takes one more stream.
    pub(super) fn has_free_stream(&self) -> bool {
        let streams = self.streams.len() + self.resets.waiting();
        streams < self.streams_max && !self.small_frames.is_tired()
    }

    /// An answer has begun or goes on: data that waited for it may be sent.
    pub(super) fn recv_response(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id).filter(|one| one.charged != 0) else {
            return;
        };
        self.small_frames.answered(entry);
        self.schedule(id);
        self.wake();
    }

    /// Schedules a stream with waiting data, unless it is blocked by its window or by small frames.
    pub(super) fn schedule(&mut self, id: u32) {
        let Some((entry, writer)) = self.writer(id) else {
            return;
        };
        if entry.pending.is_empty() || entry.scheduled {
            return;
        }
        if !writer.has_window(entry) {
            self.windows.shut(id);
            return;
        }
        match writer.held(entry) {
            None => {
                entry.scheduled = true;
                self.blocked.push_back(id);
            }
            Some(BlockedOn::ClientQuota) => writer.small_frames.keep_back(id, entry),
            Some(BlockedOn::Answer) => {}
        }
    }

    /// Schedules the streams whose client has budget again.
    pub(super) fn release(&mut self) {
        for id in self.small_frames.released() {
            self.schedule(id);
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn writer(&mut self, id: u32) -> Option<(&mut Stream<O>, DataWriter<'_>)> {
        let writer = DataWriter {
            out: &mut self.out,
            window: &mut self.window,
            initial: self.windows.initial(),
            small_frames: &mut self.small_frames,
        };
        Some((self.streams.get_mut(&id)?, writer))
    }

    /// The dynamic table size update before the next field block, if one is due (RFC 7541, 4.2).
    pub(super) fn table_size_update(&mut self) -> &'static [u8] {
        match std::mem::take(&mut self.table_size_reduced) {
            true => &[0x20],
            false => &[],
        }
    }
}
