//! Requests that are reset before their answers, and the bounds of their number.

use super::*;

/// Calls that a client may reset right after their start, a second. It may also reset as many calls
/// of any age as can be in flight: they all end together when a member dies.
pub(super) const RESETS_MAX: u32 = 2000;
pub(super) const UNDER_WAY_MAX: u32 = 20_000;

/// A stream that is reset within this time is reset early.
pub(super) const EARLY: Duration = Duration::from_millis(20);

const TOO_MANY_RESETS: ConnectionError = ConnectionError {
    code: ErrorCode::ENHANCE_YOUR_CALM,
    reason: "too many resets",
};

impl Client {
    /// Resets a request for a stream error.
    pub(super) fn reset_with_error(&mut self, stream: u32) -> Result<(), ConnectionError> {
        self.lengths.forget(stream);
        match self
            .session
            .reset_with_error(stream, ErrorCode::PROTOCOL_ERROR)
        {
            Some(owner) => self.ended_early(&owner),
            None => Ok(()),
        }
    }

    /// The client has reset a request.
    pub(super) fn reset(&mut self, stream: u32) -> Result<(), ConnectionError> {
        if self.is_idle(stream) {
            return Err(ConnectionError::protocol(
                "a stream is reset that has not begun",
            ));
        }
        self.lengths.forget(stream);
        match self.session.recv_reset(stream) {
            Some(owner) => self.ended_early(&owner),
            None => Ok(()),
        }
    }

    /// Cancels and counts a request that either end has reset before its answer (CVE-2023-44487,
    /// CVE-2025-8671).
    fn ended_early(&mut self, owner: &Owner) -> Result<(), ConnectionError> {
        cancel(owner);
        let early = matches!(owner, Owner::Client(call) if call.age() < EARLY);
        self.count_early_end(early)
    }

    pub(super) fn count_early_end(&mut self, early: bool) -> Result<(), ConnectionError> {
        self.session.quota.reset();
        if early && self.reset_early.exceeds(RESETS_MAX) {
            return Err(TOO_MANY_RESETS);
        }
        self.count_reset()
    }

    pub(super) fn count_reset(&mut self) -> Result<(), ConnectionError> {
        match self.resets.exceeds(self.resets_max) {
            false => Ok(()),
            true => Err(TOO_MANY_RESETS),
        }
    }
}
