//! What is done under a session's lock and concerns no stream alone.

use bytes::BytesMut;

use super::outlet::Outlet;
use super::{State, Stream};
use crate::h2::frame::{Code, Fault, WINDOW_MAX};

impl State {
    pub(super) fn put(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if !self.closed {
            put(&mut self.out);
            self.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn outlet(&mut self, id: u32) -> Option<(&mut Stream, Outlet<'_>)> {
        let (out, window) = (&mut self.out, &mut self.window);
        let known = self.streams.get_mut(&id)?;
        Some((known, Outlet { out, window }))
    }

    /// What the next block of fields begins with: that no table is used, where that must be said.
    pub(super) fn lead(&mut self) -> &'static [u8] {
        match std::mem::take(&mut self.shrunk) {
            true => &[0x20],
            false => &[],
        }
    }

    pub(super) fn new_windows(&mut self, window: i64) -> Result<(), Fault> {
        let by = window - self.stream_window;
        self.stream_window = window;
        let mut largest = window;
        for (id, known) in &mut self.streams {
            known.window += by;
            largest = largest.max(known.window);
            if !known.pending.is_empty() && !known.listed && 0 < known.window {
                known.listed = true;
                self.held_up.push_back(*id);
            }
        }
        match largest <= WINDOW_MAX {
            true => Ok(()),
            false => Err(Fault::new(
                Code::FLOW_CONTROL_ERROR,
                "a window is too large",
            )),
        }
    }
}
