//! Automatic compaction: which revision the leader compacts, and when. etcd v3.7.1
//! `etcdserver/api/v3compactor`.
//!
//! Every member records revisions, so that a new leader has those of the period before.

use std::collections::VecDeque;

use crate::Millis;

/// The longest interval of compactions by time, in milliseconds.
const INTERVAL_MS_MAX: u64 = 60 * 60 * 1_000;
/// A revision is noted ten times an interval.
const NOTES: u64 = 10;
/// The interval of compactions by revision, in milliseconds.
const REVISION_INTERVAL_MS: u64 = 5 * 60 * 1_000;

/// What automatic compaction keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// The revisions of that time, in milliseconds.
    Periodic(u64),
    /// That number of revisions.
    Revision(i64),
}

/// Decides on compactions.
#[derive(Debug)]
pub struct Compactor {
    rule: AutoCompaction,
    /// Revisions at intervals, the oldest first; that one is a period old once it is full.
    noted: VecDeque<i64>,
    notes_max: usize,
    step_ms: u64,
    due: Millis,
    last_revision: i64,
    last_success: Millis,
    /// The least time between two compactions; the whole period before the first one.
    interval_ms: u64,
}

impl Compactor {
    /// Begins with the present revision.
    #[must_use]
    pub fn new(rule: AutoCompaction, now: Millis, revision: i64) -> Compactor {
        let (step_ms, notes, interval_ms) = match rule {
            AutoCompaction::Periodic(period) => {
                let step = (period.min(INTERVAL_MS_MAX) / NOTES).max(1);
                (step, period / step + 1, period)
            }
            AutoCompaction::Revision(_) => (REVISION_INTERVAL_MS, 1, 0),
        };
        Compactor {
            rule,
            noted: VecDeque::from([revision]),
            notes_max: usize::try_from(notes).unwrap_or(usize::MAX),
            step_ms,
            due: Millis(now.0.saturating_add(step_ms)),
            last_revision: 0,
            last_success: now,
            interval_ms,
        }
    }

    /// When the next step is due.
    #[must_use]
    pub fn due(&self) -> Millis {
        self.due
    }

    /// Takes a step, if it is due, and returns the revision to compact. Only a leader compacts.
    pub fn step(&mut self, now: Millis, revision: i64, leads: bool) -> Option<i64> {
        if now < self.due {
            return None;
        }
        self.due = Millis(now.0.saturating_add(self.step_ms));
        let chosen = match self.rule {
            AutoCompaction::Periodic(_) => {
                let waited = now.0.saturating_sub(self.last_success.0);
                let oldest = self.noted.front().copied();
                oldest.filter(|_| self.interval_ms <= waited)
            }
            AutoCompaction::Revision(kept) => {
                Some(revision.saturating_sub(kept)).filter(|chosen| 0 < *chosen)
            }
        };
        self.noted.push_back(revision);
        if self.notes_max < self.noted.len() {
            self.noted.pop_front();
        }
        let chosen = chosen.filter(|chosen| leads && *chosen != self.last_revision)?;
        self.interval_ms = self.interval_ms.min(INTERVAL_MS_MAX);
        Some(chosen)
    }

    /// Everything below the revision is compacted, by this member or another one.
    pub fn compacted(&mut self, now: Millis, revision: i64) {
        self.last_revision = revision;
        self.last_success = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;

    /// Runs for a number of minutes with a revision a minute. Returns the minutes and revisions of
    /// the compactions.
    fn run(
        rule: AutoCompaction,
        minutes: u64,
        leads: impl Fn(u64) -> bool,
        fails: impl Fn(u64) -> bool,
    ) -> Vec<(u64, i64)> {
        let mut compactor = Compactor::new(rule, Millis(0), 1);
        let mut done = Vec::new();
        for minute in 1..=minutes {
            let now = Millis(minute * MINUTE);
            let revision = 1 + i64::try_from(minute).expect("few minutes");
            if let Some(chosen) = compactor.step(now, revision, leads(minute)) {
                if !fails(minute) {
                    compactor.compacted(now, chosen);
                }
                done.push((minute, chosen));
            }
        }
        done
    }

    const ALWAYS: fn(u64) -> bool = |_| true;
    const NEVER: fn(u64) -> bool = |_| false;

    #[test]
    fn an_hour_is_kept_and_compacted_hourly() {
        let done = run(AutoCompaction::Periodic(HOUR), 200, ALWAYS, NEVER);
        assert_eq!(done, [(60, 1), (120, 55), (180, 115)]);
    }

    #[test]
    fn a_day_is_kept_and_compacted_hourly_after_the_first() {
        let done = run(AutoCompaction::Periodic(24 * HOUR), 26 * 60, ALWAYS, NEVER);
        assert_eq!(done, [(1440, 1), (1500, 55), (1560, 115)]);
    }

    #[test]
    fn revisions_are_kept_by_number_every_five_minutes() {
        let done = run(AutoCompaction::Revision(8), 21, ALWAYS, NEVER);
        assert_eq!(done, [(10, 3), (15, 8), (20, 13)]);
    }

    #[test]
    fn a_follower_only_notes_and_a_failure_is_repeated() {
        let done = run(
            AutoCompaction::Periodic(HOUR),
            100,
            |minute| 80 < minute,
            NEVER,
        );
        assert_eq!(done, [(84, 19)]);
        let done = run(AutoCompaction::Periodic(HOUR), 75, ALWAYS, |minute| {
            minute < 70
        });
        assert_eq!(done, [(60, 1), (66, 1), (72, 7)]);
    }

    #[test]
    fn a_revision_is_not_compacted_twice() {
        let mut compactor = Compactor::new(AutoCompaction::Periodic(HOUR), Millis(0), 5);
        let mut chosen = Vec::new();
        for minute in 1..=180 {
            let now = Millis(minute * MINUTE);
            if let Some(revision) = compactor.step(now, 5, true) {
                compactor.compacted(now, revision);
                chosen.push(revision);
            }
        }
        assert_eq!(chosen, [5]);
    }
}
