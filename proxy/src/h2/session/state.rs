//! What is done under a session's lock and concerns no stream alone.

use bytes::BytesMut;

use super::outlet::Outlet;
use super::pieces::Held;
use super::{State, Stream};

impl State {
    pub(super) fn put(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if !self.closed {
            put(&mut self.out);
            self.wake();
        }
    }

    /// The same, for what has a state of its own.
    pub(super) fn put_with(&mut self, put: impl FnOnce(&mut BytesMut, &mut State)) {
        let mut out = std::mem::take(&mut self.out);
        if !self.closed {
            put(&mut out, self);
            self.wake();
        }
        self.out = out;
    }

    /// Whether the other end takes one more stream.
    pub(super) fn has_place(&self) -> bool {
        let streams = self.streams.len() + self.resets.waiting();
        streams < self.streams_max && !self.pieces.is_tired()
    }

    /// A stream is answered: what waited for that may go.
    pub(super) fn heard(&mut self, id: u32) {
        let Some(known) = self.streams.get_mut(&id).filter(|one| one.charged != 0) else {
            return;
        };
        self.pieces.answered(known);
        self.list(id);
        self.wake();
    }

    /// Has a stream's data go in its turn, unless it waits for its own window or for more data.
    pub(super) fn list(&mut self, id: u32) {
        let Some((known, outlet)) = self.outlet(id) else {
            return;
        };
        if known.pending.is_empty() || known.listed {
            return;
        }
        if !outlet.has_window(known) {
            self.windows.shut(id);
            return;
        }
        match outlet.held(known) {
            None => {
                known.listed = true;
                self.held_up.push_back(id);
            }
            Some(Held::Share) => outlet.pieces.keep_back(id, known),
            Some(Held::Answer) => {}
        }
    }

    /// Has those go that wait for their client's share no longer.
    pub(super) fn release(&mut self) {
        for id in self.pieces.released() {
            self.list(id);
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn outlet(&mut self, id: u32) -> Option<(&mut Stream, Outlet<'_>)> {
        let outlet = Outlet {
            out: &mut self.out,
            window: &mut self.window,
            initial: self.windows.initial(),
            pieces: &mut self.pieces,
        };
        Some((self.streams.get_mut(&id)?, outlet))
    }

    /// What the next block of fields begins with: that no table is used, where that must be said.
    pub(super) fn lead(&mut self) -> &'static [u8] {
        match std::mem::take(&mut self.shrunk) {
            true => &[0x20],
            false => &[],
        }
    }
}
