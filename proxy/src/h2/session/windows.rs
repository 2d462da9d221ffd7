//! What the other end lets us send on streams.
//!
//! A stream's window is kept as its difference to the initial one, so that settings that change that, which
//! concerns all streams, cost nothing for most of them (RFC 9113, 6.9.2).

use std::collections::HashSet;

use crate::h2::frame::{Code, Fault, WINDOW, WINDOW_MAX};

/// The initial window, and the streams that wait for theirs.
pub(super) struct Windows {
    initial: i64,
    /// No stream's difference is larger.
    largest: i64,
    /// Streams whose data waits for their own window.
    shut: HashSet<u32>,
}

const TOO_LARGE: Fault = Fault {
    code: Code::FLOW_CONTROL_ERROR,
    what: "a window is too large",
};

impl Default for Windows {
    fn default() -> Windows {
        Windows {
            initial: i64::from(WINDOW),
            largest: 0,
            shut: HashSet::new(),
        }
    }
}

impl Windows {
    pub(super) fn initial(&self) -> i64 {
        self.initial
    }

    /// Another initial window. `differences` are those of all streams, which are looked at only when one of
    /// them may be too large. Returns the streams whose data may perhaps go now.
    pub(super) fn begin_with(
        &mut self,
        initial: i64,
        differences: impl Iterator<Item = i64>,
    ) -> Result<HashSet<u32>, Fault> {
        if WINDOW_MAX < initial + self.largest {
            self.largest = differences.fold(0, i64::max);
        }
        if WINDOW_MAX < initial + self.largest {
            return Err(TOO_LARGE);
        }
        let grows = self.initial < initial;
        self.initial = initial;
        Ok(match grows {
            true => std::mem::take(&mut self.shut),
            false => HashSet::new(),
        })
    }

    /// A stream's window grows.
    pub(super) fn grow(&mut self, difference: &mut i64, by: i64) -> bool {
        *difference += by;
        self.largest = self.largest.max(*difference);
        self.initial + *difference <= WINDOW_MAX
    }

    /// A stream's data waits for its window.
    pub(super) fn shut(&mut self, id: u32) {
        self.shut.insert(id);
    }

    /// It does not any more.
    pub(super) fn forget(&mut self, id: u32) {
        if !self.shut.is_empty() {
            self.shut.remove(&id);
        }
    }
}
