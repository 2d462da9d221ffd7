//! What the source has from an index on, by one wait at a time.

use std::time::Duration;

use keelson_proto::internal::TreeEvent;
use tokio::time::timeout;

use super::source::{PendingWait, Wait};
use super::{TreeFollowError, TreeFollower};

/// The wait for a past event whose answer has begun.
const PROMPT: Duration = Duration::from_millis(20);
/// After that no event comes, the first time and in the second request: the index was
/// advanced without one.
const SILENT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// The same up to a given index. Under the fence v3 keys wait for it; otherwise a comparison does.
const SILENT_UPTO: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// What the source has from an index on.
pub(super) enum Heard {
    /// The first event.
    Event(Box<TreeEvent>),
    /// No event up to that index.
    Silence { upto: u64 },
    /// Nothing yet.
    Nothing,
    /// The request must be repeated.
    Again,
    /// The history begins later.
    Cleared { oldest: u64 },
    /// Less than was followed.
    Behind,
}

impl TreeFollower<'_> {
    /// What the source has from an index on; up to one, or up to `u64::MAX` what is there now.
    pub(super) async fn hear(&mut self, from: u64, upto: u64) -> Result<Heard, TreeFollowError> {
        let is_now = upto == u64::MAX;
        // One that began before the source had `upto` does not show whether that has an event.
        let is_new = |pending: &PendingWait| is_now || upto <= pending.index;
        let pending = self.pending.take();
        let pending = pending.filter(|pending| pending.from == from && is_new(pending));
        let mut pending = match pending {
            Some(pending) => pending,
            None => match self.source.wait(from).await? {
                Wait::Begun(pending) => pending,
                Wait::Cleared { oldest } => return Ok(Heard::Cleared { oldest }),
            },
        };
        if pending.index + 1 < from {
            return Ok(Heard::Behind);
        }
        let is_past = from <= pending.index;
        if !is_past && !pending.is_over() {
            self.cleared = 0;
            self.pending = Some(pending);
            return Ok(Heard::Nothing);
        }
        let times = usize::from(self.doubted == Some(from));
        let patience = match is_now {
            true => PROMPT,
            false => SILENT_UPTO[times],
        };
        match timeout(patience, pending.event(&mut self.source)).await {
            Err(_) if is_now && pending.began.elapsed() < SILENT[times] => {
                self.pending = Some(pending);
                Ok(Heard::Nothing)
            }
            Err(_) if times == 0 => {
                // It may be late only.
                self.doubted = Some(from);
                Ok(Heard::Again)
            }
            Err(_) => Ok(Heard::Silence {
                upto: pending.index,
            }),
            Ok(event) => match event? {
                // A hidden one may have come before.
                Some(event) if pending.index < event.index && from < event.index => {
                    Ok(Heard::Again)
                }
                Some(event) if from <= event.index => Ok(Heard::Event(Box::new(event))),
                // A wait has a limit of time.
                None if !is_past => Ok(Heard::Nothing),
                _ => Err(TreeFollowError::Lost(
                    "it answers a wait with another event".to_owned(),
                )),
            },
        }
    }
}
