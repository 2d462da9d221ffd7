//! Events on their way to the watchers.
//!
//! Thousands of watchers must not hold up the log: what is applied is queued, and delivered apart
//! from that. While the queue is full each event that comes costs its publisher the delivery of the
//! oldest one, as every event costs etcd's: no event is dropped, and the log does not stand still
//! until the queue is empty.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::tree::Event;

/// Events that wait to be delivered: fewer than this, or the oldest is delivered first.
pub const QUEUE_EVENTS_MAX: usize = 4096;

/// What those may weigh together, in bytes ([`Event::weight`]).
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whether an event that was applied must be queued, with so many watchers.
pub fn is_published(event: &Event, watchers: usize) -> bool {
    watchers != 0 && !event.refresh
}

/// Events in the order of their indexes.
pub struct EventQueue {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Default for EventQueue {
    fn default() -> EventQueue {
        EventQueue::within(QUEUE_EVENTS_MAX, QUEUE_BYTES_MAX)
    }
}

impl EventQueue {
    /// A queue that is full with so many events, or with so many bytes of them.
    pub fn within(events_max: usize, bytes_max: usize) -> EventQueue {
        EventQueue {
            events: VecDeque::new(),
            bytes: 0,
            events_max,
            bytes_max,
        }
    }

    /// The newest event. A queue that is full then must be popped until it is not.
    pub fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(event);
    }

    /// The oldest event, to be delivered next.
    pub fn pop(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.weight();
        Some(event)
    }

    /// Whether an event must leave before the next one comes.
    pub fn is_full(&self) -> bool {
        self.events_max <= self.events.len() || self.bytes_max <= self.bytes
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// What they weigh together ([`Event::weight`]).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::watchers::tests::event;

    #[test]
    fn a_queue_is_full_at_either_bound_and_keeps_the_order() {
        let weight = event("/1/a", 1).weight();
        for mut queue in [
            EventQueue::within(3, usize::MAX),
            EventQueue::within(usize::MAX, 3 * weight),
        ] {
            for index in 1..=3 {
                assert!(!queue.is_full());
                queue.push(event("/1/a", index));
            }
            assert!(queue.is_full());
            assert_eq!(queue.pop().map(|event| event.index), Some(1));
            assert!(!queue.is_full());
            queue.push(event("/1/a", 4));
            let rest = std::iter::from_fn(|| queue.pop()).map(|event| event.index);
            assert_eq!(rest.collect::<Vec<_>>(), [2, 3, 4]);
            assert!(queue.is_empty() && queue.bytes() == 0);
        }
    }

    #[test]
    fn without_watchers_and_for_a_refresh_nothing_is_queued() {
        let event = event("/1/a", 1);
        assert!(!is_published(&event, 0));
        assert!(is_published(&event, 1));
        let refresh = Event {
            refresh: true,
            ..Event::clone(&event)
        };
        assert!(!is_published(&refresh, 1));
    }
}
