//! Requests that end before their answers, and how many may.

use super::*;
use crate::h2::burst::AT_ONCE;

/// Calls that a client may give up at once, a second. Of any age it may give up all that are under
/// way besides: that many end together is what happens when a member dies.
pub(super) const RESETS_MAX: u32 = 2000;
pub(super) const UNDER_WAY_MAX: u32 = 20_000;

const TOO_MANY_RESETS: Fault = Fault {
    code: Code::ENHANCE_YOUR_CALM,
    what: "too many resets",
};

impl Client {
    /// Ends a request over what came of it.
    pub(super) fn break_off(&mut self, stream: u32) -> Result<(), Fault> {
        self.lengths.forget(stream);
        match self.session.break_off(stream, Code::PROTOCOL_ERROR) {
            Some(owner) => self.given_up(&owner),
            None => Ok(()),
        }
    }

    /// The client gives a request up.
    pub(super) fn reset(&mut self, stream: u32) -> Result<(), Fault> {
        if self.is_idle(stream) {
            return Err(Fault::protocol("a stream is reset that has not begun"));
        }
        self.lengths.forget(stream);
        match self.session.was_reset(stream) {
            Some(owner) => self.given_up(&owner),
            None => Ok(()),
        }
    }

    /// A request has ended before its answer, whichever end has reset it (CVE-2023-44487,
    /// CVE-2025-8671).
    fn given_up(&mut self, owner: &Owner) -> Result<(), Fault> {
        cancel(owner);
        let at_once = matches!(owner, Owner::Client(call) if call.age() < AT_ONCE);
        self.count_given_up(at_once)
    }

    pub(super) fn count_given_up(&mut self, at_once: bool) -> Result<(), Fault> {
        self.session.share.reset();
        if at_once && self.young.exceeds(RESETS_MAX) {
            return Err(TOO_MANY_RESETS);
        }
        self.count_reset()
    }

    pub(super) fn count_reset(&mut self) -> Result<(), Fault> {
        match self.resets.exceeds(self.resets_max) {
            false => Ok(()),
            true => Err(TOO_MANY_RESETS),
        }
    }
}
