//! Virtual time: planned events and their times. Nothing waits; the clock jumps from event to
//! event.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A millisecond of the busiest seeds has a few thousand.
const EVENTS_AT_ONE_TIME: u64 = 200_000;

/// Events in the order of their time; events of the same time in the order in which they were
/// planned.
pub(super) struct Clock<E> {
    now_ms: u64,
    planned: u64,
    at_this_time: u64,
    events: BinaryHeap<Planned<E>>,
}

struct Planned<E> {
    at_ms: u64,
    number: u64,
    event: E,
}

impl<E> Clock<E> {
    /// A clock at 0 with nothing planned.
    pub(super) fn new() -> Clock<E> {
        Clock {
            now_ms: 0,
            planned: 0,
            at_this_time: 0,
            events: BinaryHeap::new(),
        }
    }

    /// The time, in milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Whether so many events came at this one time that members must be in a loop without end.
    pub(super) fn stands_still(&self) -> bool {
        EVENTS_AT_ONE_TIME < self.at_this_time
    }

    /// Plans an event after a delay.
    pub(super) fn after(&mut self, delay_ms: u64, event: E) {
        self.planned += 1;
        self.events.push(Planned {
            at_ms: self.now_ms + delay_ms,
            number: self.planned,
            event,
        });
    }

    /// Jumps to the next event, if its time is before `until_ms`.
    pub(super) fn next(&mut self, until_ms: u64) -> Option<E> {
        let next = self.events.peek().filter(|next| next.at_ms < until_ms)?;
        self.at_this_time = match next.at_ms == self.now_ms {
            true => self.at_this_time + 1,
            false => 1,
        };
        self.now_ms = next.at_ms;
        self.events.pop().map(|planned| planned.event)
    }
}

impl<E> Default for Clock<E> {
    fn default() -> Clock<E> {
        Clock::new()
    }
}

impl<E> Ord for Planned<E> {
    /// Reversed, since the heap returns its greatest element and the earliest event is needed.
    fn cmp(&self, other: &Planned<E>) -> Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Planned<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Planned<E>) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Planned<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_then_of_planning() {
        let mut clock = Clock::new();
        clock.after(5, "third");
        clock.after(1, "first");
        clock.after(1, "second");
        clock.after(9, "too late");
        let seen: Vec<_> = std::iter::from_fn(|| clock.next(9)).collect();
        assert_eq!(seen, ["first", "second", "third"]);
        assert_eq!(clock.now_ms(), 5);
    }

    /// The run would not end, and print nothing.
    #[test]
    fn a_loop_at_one_time_is_found() {
        let mut clock = Clock::new();
        let turns_until_found = |clock: &mut Clock<()>, delay_ms| {
            (1..=EVENTS_AT_ONE_TIME + 1).find(|_| {
                clock.after(delay_ms, ());
                clock.next(u64::MAX);
                clock.stands_still()
            })
        };
        assert_eq!(turns_until_found(&mut clock, 1), None);
        assert!(turns_until_found(&mut clock, 0).is_some());
    }
}
