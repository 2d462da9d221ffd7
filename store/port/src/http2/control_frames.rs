//! Limits the frames that belong to no request: a client could send them without end, and some cost
//! the receiver more than the sender.

use super::frame::{ConnectionError, ErrorCode, Frame};
use super::rate_limit::RateLimit;

/// SETTINGS frames, a second. Clients send one, and a few more while they estimate the
/// bandwidth-delay product.
const SETTINGS_MAX: u32 = 100;

/// Frames that belong to no request, a second. Clients that estimate the bandwidth-delay product
/// send a PING once a round trip while data comes.
const IDLE_MAX: u32 = 20_000;

/// The counts of one connection.
#[derive(Default)]
pub(super) struct ControlFrameLimit {
    settings: RateLimit,
    idle: RateLimit,
}

impl ControlFrameLimit {
    pub(super) fn count(&mut self, frame: &Frame<'_>) -> Result<(), ConnectionError> {
        let too_many = match frame {
            Frame::Settings(_) => self.settings.exceeds(SETTINGS_MAX),
            frame => frame.is_idle() && self.idle.exceeds(IDLE_MAX),
        };
        match too_many {
            false => Ok(()),
            true => Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "too many frames that are no request",
            )),
        }
    }
}
