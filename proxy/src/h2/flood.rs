//! Counts what a client may say without end, and what costs us more than it costs the client.

use super::burst::Burst;
use super::frame::{Code, Event, Fault};

/// Frames of settings, a second. Clients send one, and a few more while they find out how much a connection
/// carries.
const SETTINGS_MAX: u32 = 100;

/// Frames that belong to no request, a second. Clients that find out how much a connection carries ping once
/// a round trip while data comes.
const IDLE_MAX: u32 = 20_000;

/// Of one connection.
#[derive(Default)]
pub(super) struct Flood {
    settings: Burst,
    idle: Burst,
}

impl Flood {
    pub(super) fn count(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        let too_many = match event {
            Event::Settings(_) => self.settings.exceeds(SETTINGS_MAX),
            event => event.is_idle() && self.idle.exceeds(IDLE_MAX),
        };
        match too_many {
            false => Ok(()),
            true => Err(Fault::new(
                Code::ENHANCE_YOUR_CALM,
                "too many frames that are no request",
            )),
        }
    }
}
