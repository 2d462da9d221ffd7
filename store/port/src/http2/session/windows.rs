//! The send windows of streams.
//!
//! A window is stored as its difference to the initial window. SETTINGS_INITIAL_WINDOW_SIZE changes
//! all windows (RFC 9113, 6.9.2), and costs nothing for most streams in this way.

use std::collections::HashSet;

use crate::http2::frame::{ConnectionError, DEFAULT_WINDOW, ErrorCode, MAX_WINDOW};

/// The initial window, and the streams whose window is exhausted.
pub(super) struct SendWindows {
    initial: i64,
    /// An upper bound of all differences.
    largest: i64,
    /// The streams whose data waits for their own window.
    shut: HashSet<u32>,
}

const TOO_LARGE: ConnectionError = ConnectionError {
    code: ErrorCode::FLOW_CONTROL_ERROR,
    reason: "a window is too large",
};

impl Default for SendWindows {
    fn default() -> SendWindows {
        SendWindows {
            initial: i64::from(DEFAULT_WINDOW),
            largest: 0,
            shut: HashSet::new(),
        }
    }
}

impl SendWindows {
    pub(super) fn initial(&self) -> i64 {
        self.initial
    }

    /// Sets the initial window. `deltas` are the differences of all streams, which are read only if
    /// one of them may be too large. Returns the streams whose data may be sent now.
    pub(super) fn begin_with(
        &mut self,
        initial: i64,
        deltas: impl Iterator<Item = i64>,
    ) -> Result<HashSet<u32>, ConnectionError> {
        if MAX_WINDOW < initial + self.largest {
            self.largest = deltas.fold(0, i64::max);
        }
        if MAX_WINDOW < initial + self.largest {
            return Err(TOO_LARGE);
        }
        let grows = self.initial < initial;
        self.initial = initial;
        Ok(match grows {
            true => std::mem::take(&mut self.shut),
            false => HashSet::new(),
        })
    }

    /// Enlarges a stream's window. Returns whether it is still valid.
    pub(super) fn grow(&mut self, send_window_delta: &mut i64, by: i64) -> bool {
        *send_window_delta += by;
        self.largest = self.largest.max(*send_window_delta);
        self.initial + *send_window_delta <= MAX_WINDOW
    }

    /// Records a stream whose data waits for its window.
    pub(super) fn shut(&mut self, id: u32) {
        self.shut.insert(id);
    }

    /// Removes such a stream.
    pub(super) fn forget(&mut self, id: u32) {
        if !self.shut.is_empty() {
            self.shut.remove(&id);
        }
    }
}
