//! Read deadlines: for the preface and the first SETTINGS, for a field block, and for a frame. They
//! equal those of HTTP/1.1.

use std::time::Duration;

use tokio::time::Instant;

use super::frame::{ConnectionError, ErrorCode, Partial};

/// For the preface and the first SETTINGS, for a field block, and for a frame other than DATA.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// For a DATA frame.
const DATA_TIME_MAX: Duration = Duration::from_secs(60);

/// The deadlines of a connection.
pub(super) struct ReadDeadlines {
    greets_until: Option<Instant>,
    partial: Option<(Partial, Instant)>,
    /// Reading is suspended, so that an unfinished frame cannot end.
    stopped: bool,
}

impl ReadDeadlines {
    pub(super) fn new() -> ReadDeadlines {
        ReadDeadlines {
            greets_until: Some(Instant::now() + HEAD_TIME_MAX),
            partial: None,
            stopped: false,
        }
    }

    /// Bytes have been read. `settings_received`: the first SETTINGS have come; `whole`: the bytes
    /// contain the end of a frame or block; `left`: what is unfinished.
    pub(super) fn update(&mut self, settings_received: bool, whole: bool, left: Option<Partial>) {
        if settings_received {
            self.greets_until = None;
        }
        self.partial = left.map(|left| match self.partial {
            // It is the one that was unfinished before.
            Some((_, since)) if !whole => (left, since),
            _ => (left, Instant::now()),
        });
    }

    /// Reading is suspended until `resume`.
    pub(super) fn suspend(&mut self) {
        self.stopped = true;
    }

    /// Reading goes on. An unfinished frame gets its whole time again.
    pub(super) fn resume(&mut self) {
        if std::mem::take(&mut self.stopped)
            && let Some((_, since)) = &mut self.partial
        {
            *since = Instant::now();
        }
    }

    /// The next deadline.
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

    /// The error, if a deadline has passed.
    pub(super) fn check(&self) -> Result<(), ConnectionError> {
        match self.due() {
            Some(due) if due <= Instant::now() => Err(match self.greets_until {
                Some(_) => {
                    ConnectionError::new(ErrorCode::SETTINGS_TIMEOUT, "no settings came in time")
                }
                None => ConnectionError::new(
                    ErrorCode::ENHANCE_YOUR_CALM,
                    "a frame did not end in time",
                ),
            }),
            _ => Ok(()),
        }
    }
}
