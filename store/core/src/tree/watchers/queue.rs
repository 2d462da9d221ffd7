//! The queue of events to be delivered to watchers.
//!
//! Thousands of watchers must not delay the applier: applied events are queued, and delivered
//! separately. While the queue is full, each new event first delivers the oldest one, as every
//! event does in etcd. So no event is dropped, and the applier does not wait for an empty queue.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::tree::Event;

/// The number of events at which the queue is full.
pub const QUEUE_EVENTS_MAX: usize = 4096;

/// Their size at which the queue is full, in bytes ([`Event::weight`]).
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whether an applied event must be queued, given the number of watchers.
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
    /// A queue that is full at that number of events, or at that size in bytes.
    pub fn within(events_max: usize, bytes_max: usize) -> EventQueue {
        EventQueue {
            events: VecDeque::new(),
            bytes: 0,
            events_max,
            bytes_max,
        }
    }

    /// Adds the newest event. If the queue is full then, it must be popped until it is not.
    pub fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(event);
    }

    /// Removes the oldest event, to be delivered next.
    pub fn pop(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.weight();
        Some(event)
    }

    /// Whether an event must be delivered before the next one is added.
    pub fn is_full(&self) -> bool {
        self.events_max <= self.events.len() || self.bytes_max <= self.bytes
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Their size in bytes ([`Event::weight`]).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the queue is empty.
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
