//! The parameters of v3 watches in a run.

use keelson_core::watch::{MailboxLimits, WatchLimits};

use crate::sim::dice::Dice;
use crate::sim::mutant::Mutant;

/// How many clients watch, and how members deliver to them.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// The number of clients with a stream of v3 watches, beside those of the other APIs.
    pub clients: u64,
    /// The longest delay of a step of a member's delivery to them, in milliseconds.
    pub fan_out_ms: u64,
    /// The rows of such a step, and of one of a watcher that reads the history.
    pub rows: usize,
    /// The size of a stream's mailbox.
    pub mailbox_bytes: usize,
    /// The size of the revisions that a member keeps in memory for its streams.
    pub recent_bytes: usize,
}

impl Default for StreamPlan {
    fn default() -> StreamPlan {
        StreamPlan {
            clients: 0,
            fan_out_ms: 5,
            rows: 256,
            mailbox_bytes: 64 << 10,
            recent_bytes: 1 << 20,
        }
    }
}

impl StreamPlan {
    /// Draws the parameters. In half of the runs no client watches: they cost time.
    pub(in crate::sim) fn draw(&mut self, dice: &mut Dice) {
        if dice.chance(0.5) {
            return;
        }
        self.clients = dice.between(1, 3);
        // Late, or in small steps.
        let steps = [(0, 256), (5, 1), (50, 3), (500, 256), (3_000, 1_000)];
        (self.fan_out_ms, self.rows) = dice.pick(&steps).expect("not empty");
        self.mailbox_bytes = dice.pick(&[1, 500, 64 << 10]).expect("not empty");
        self.recent_bytes = dice.pick(&[0, 1_000, 1 << 20]).expect("not empty");
    }

    /// Makes a run in which this mutant is likely to matter.
    pub(in crate::sim) fn aim_at(&mut self, mutant: Mutant) {
        self.clients = if mutant.is_of_watches() { 3 } else { 0 };
        if mutant == Mutant::EventLostAtCompaction {
            (self.fan_out_ms, self.rows) = (3_000, 1_000);
        }
    }

    /// What cannot change while members run, and else no delays.
    pub(in crate::sim) fn calm(&self) -> StreamPlan {
        StreamPlan {
            fan_out_ms: StreamPlan::default().fan_out_ms,
            ..self.clone()
        }
    }

    /// The limits of members' watches: with small ones, streams read the history.
    pub(in crate::sim) fn limits(&self) -> WatchLimits {
        let bytes = self.mailbox_bytes;
        WatchLimits {
            mailboxes: MailboxLimits {
                each_min: bytes,
                each_max: bytes,
                all_max: bytes,
            },
            recent_bytes: self.recent_bytes,
            previous_bytes: self.recent_bytes,
            fan_out_rows: self.rows,
            history_rows: self.rows,
        }
    }
}
