//! The responses of a watch that several clients share.
//!
//! One watch on a member serves all clients that watch the same range in the same way. Its
//! responses are kept for a while, and each client has a cursor. A client may begin at any revision
//! from which the log has all events. A client that does not keep up with the log leaves it, and so
//! does one that would have to receive a part of a response.

use std::collections::VecDeque;

use super::resumption::ResponseHeader;

/// A response that all clients of a log receive: events, or a notification of progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SharedResponse<E> {
    pub(crate) header: ResponseHeader,
    /// `None`: a notification that all events up to the header's revision have been sent.
    pub(crate) events: Option<SharedEvents<E>>,
}

/// The events of a response: all of the revisions between two of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SharedEvents<E> {
    /// The revisions of the first event and of the last.
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// As the member encoded them.
    pub(crate) encoded: E,
}

impl<E> SharedResponse<E> {
    /// Whether a client that has all events before `next` has more than this.
    fn is_old(&self, next: i64) -> bool {
        match &self.events {
            Some(events) => events.last < next,
            None => self.header.revision.saturating_add(1) < next,
        }
    }

    /// The last revision whose events have been sent with this response.
    fn last(&self) -> i64 {
        match &self.events {
            Some(events) => events.last,
            None => self.header.revision,
        }
    }
}

/// What a client receives next.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Next<R> {
    Response(R),
    /// It has received all of the log.
    End,
    /// The log does not have what it needs.
    Gone,
}

/// The latest responses of a watch.
pub(crate) struct SharedLog<E> {
    responses: VecDeque<(SharedResponse<E>, usize)>,
    /// The number of responses that have been dropped.
    dropped: u64,
    /// The log has all events from this revision on.
    from: i64,
    bytes: usize,
    bytes_max: usize,
}

impl<E: Clone> SharedLog<E> {
    /// The log of a watch that was created at this revision.
    pub(crate) fn new(created: i64, bytes_max: usize) -> SharedLog<E> {
        SharedLog {
            responses: VecDeque::new(),
            dropped: 0,
            from: created.saturating_add(1),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds a response of so many bytes, and drops the oldest ones beyond the bound.
    pub(crate) fn push(&mut self, response: SharedResponse<E>, bytes: usize) {
        self.responses.push_back((response, bytes));
        self.bytes += bytes;
        while self.bytes_max < self.bytes
            && 1 < self.responses.len()
            && let Some((response, bytes)) = self.responses.pop_front()
        {
            self.bytes -= bytes;
            self.dropped += 1;
            self.from = self.from.max(response.last().saturating_add(1));
        }
    }

    /// The cursor of a client that has all events before `next`. `None`: the log begins later, or a
    /// response has events from before and after.
    pub(crate) fn cursor(&self, next: i64) -> Option<u64> {
        if next < self.from {
            return None;
        }
        let old = |(one, _): &&(SharedResponse<E>, usize)| one.is_old(next);
        let skipped = self.responses.iter().take_while(old);
        let cursor = self.dropped + skipped.count() as u64;
        (!matches!(self.next(cursor, next), Next::Gone)).then_some(cursor)
    }

    /// What a client receives that has all events before `next`. Sets the cursor to the response
    /// after it.
    pub(crate) fn take(&self, cursor: &mut u64, next: i64) -> Next<SharedResponse<E>> {
        loop {
            let found = self.next(*cursor, next);
            if let Next::Response(response) = &found {
                *cursor += 1;
                // The client was ahead of the log when it began.
                if response.is_old(next) {
                    continue;
                }
            }
            return found;
        }
    }

    fn next(&self, cursor: u64, next: i64) -> Next<SharedResponse<E>> {
        let Some(at) = cursor.checked_sub(self.dropped) else {
            return Next::Gone;
        };
        let Some((response, _)) = self
            .responses
            .get(usize::try_from(at).unwrap_or(usize::MAX))
        else {
            return Next::End;
        };
        match &response.events {
            Some(events) if events.first < next && next <= events.last => Next::Gone,
            _ => Next::Response(response.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(first: i64, last: i64) -> SharedResponse<Vec<i64>> {
        SharedResponse {
            header: ResponseHeader {
                revision: last,
                ..ResponseHeader::default()
            },
            events: (first <= last).then(|| SharedEvents {
                first,
                last,
                encoded: (first..=last).collect(),
            }),
        }
    }

    /// The number of revisions, the position of a client that begins, and which clients read.
    fn step() -> impl Strategy<Value = (i64, Option<i64>, usize)> {
        (0..4_i64, prop::option::of(0..60_i64), 0..9_usize)
    }

    proptest! {
        /// Clients begin anywhere and read at any time. What they receive has no gap and no
        /// event twice.
        #[test]
        fn a_client_receives_every_event_once_or_leaves(
            created in 0..20_i64,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut log = SharedLog::new(created, 12);
            let mut written = created;
            // The cursor of each client, and the next revision.
            let mut clients: Vec<(u64, i64)> = vec![];
            for (more, begins, reads) in steps {
                if 0 < more {
                    log.push(response(written + 1, written + more), more as usize);
                    written += more;
                } else {
                    log.push(response(written + 1, written), 1);
                }
                prop_assert!(log.bytes <= 12);
                if let Some(next) = begins {
                    let cursor = log.cursor(next);
                    prop_assert!(cursor.is_some() || next <= written);
                    clients.extend(cursor.map(|cursor| (cursor, next)));
                }
                let mut kept = vec![];
                for (n, (mut cursor, mut next)) in clients.into_iter().enumerate() {
                    let mut gone = false;
                    while n % 9 <= reads && !gone {
                        match log.take(&mut cursor, next) {
                            Next::Response(SharedResponse { events: Some(events), .. }) => {
                                let expected = next.max(events.first)..=events.last;
                                prop_assert!(events.encoded.iter().copied().eq(expected));
                                prop_assert!(next <= events.first);
                                next = events.last + 1;
                            }
                            Next::Response(progress) => {
                                prop_assert!(next <= progress.header.revision + 1);
                                prop_assert!(progress.header.revision < next || next <= written);
                            }
                            Next::End => {
                                prop_assert!(written < next, "{written} {next}");
                                break;
                            }
                            Next::Gone => gone = true,
                        }
                    }
                    if !gone {
                        kept.push((cursor, next));
                    }
                }
                clients = kept;
            }
        }
    }

    #[test]
    fn a_log_serves_what_it_has_and_nothing_older() {
        let mut log = SharedLog::new(10, 100);
        assert_eq!(log.cursor(10), None);
        assert_eq!(log.cursor(11), Some(0));
        log.push(response(12, 14), 1);
        // In the middle of a response.
        assert_eq!(
            [11, 12, 13, 15].map(|next| log.cursor(next)),
            [Some(0), Some(0), None, Some(1)]
        );
        log.push(response(15, 15), 100);
        assert_eq!([14, 15].map(|next| log.cursor(next)), [None, Some(1)]);
        let mut cursor = 0;
        assert_eq!(log.take(&mut cursor, 11), Next::Gone);
    }
}
