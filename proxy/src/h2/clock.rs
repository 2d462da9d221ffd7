//! How long the other end may take for what has to come in one go: the beginning of a connection, a
//! block of fields, a frame. The same times as over HTTP/1.1.

use std::time::Duration;

use tokio::time::Instant;

use super::frame::{Code, Fault, Partial};

/// For the preface and the first settings, for a block of fields, and for a small frame.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// For a frame of data.
const DATA_TIME_MAX: Duration = Duration::from_secs(60);

/// What a connection waits for, and until when.
pub(super) struct Clock {
    greets_until: Option<Instant>,
    partial: Option<(Partial, Instant)>,
    /// Nothing is read, so that nothing that is begun can end.
    stopped: bool,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock {
            greets_until: Some(Instant::now() + HEAD_TIME_MAX),
            partial: None,
            stopped: false,
        }
    }

    /// Bytes have come. `greeted`: the first settings are among them, or came before; `whole`: so
    /// is the end of a frame or block; `left` is begun and not whole.
    pub(super) fn arrived(&mut self, greeted: bool, whole: bool, left: Option<Partial>) {
        if greeted {
            self.greets_until = None;
        }
        self.partial = left.map(|left| match self.partial {
            // It was begun before, and goes on.
            Some((_, since)) if !whole => (left, since),
            _ => (left, Instant::now()),
        });
    }

    /// Nothing is read until `goes_on`.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// What is begun has the whole time again if nothing was read.
    pub(super) fn goes_on(&mut self) {
        if std::mem::take(&mut self.stopped)
            && let Some((_, since)) = &mut self.partial
        {
            *since = Instant::now();
        }
    }

    /// When it has taken too long.
    pub(super) fn due(&self) -> Option<Instant> {
        let partial = self.partial.filter(|_| !self.stopped);
        let partial = partial.map(|(partial, since)| {
            since
                + match partial {
                    Partial::Head => HEAD_TIME_MAX,
                    Partial::Data => DATA_TIME_MAX,
                }
        });
        self.greets_until.into_iter().chain(partial).min()
    }

    /// What it has taken too long for, if it has.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match self.due() {
            Some(due) if due <= Instant::now() => Err(match self.greets_until {
                Some(_) => Fault::new(Code::SETTINGS_TIMEOUT, "no settings came in time"),
                None => Fault::new(Code::ENHANCE_YOUR_CALM, "a frame did not end in time"),
            }),
            _ => Ok(()),
        }
    }
}
