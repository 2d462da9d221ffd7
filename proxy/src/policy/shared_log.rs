//! The responses of a watch that several clients share.
//!
//! One watch on a member serves all clients that watch the same range in the same way. Its
//! responses are kept for a while, and each client has a cursor. A client may begin at any revision
//! from which the log has all events. A client that does not keep up with the log leaves it, and so
//! does one that would have to receive a part of a response.
//!
//! A watch may be quiet while other keys change, and the revision of its latest event may be
//! compacted. The log therefore has the revision up to which it is complete, which the member
//! states, and a client that leaves continues from there.

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
    responses: VecDeque<Logged<E>>,
    /// The number of responses that have been dropped.
    dropped: u64,
    /// The log has all events from this revision on.
    from: i64,
    /// All events up to this revision are in the dropped responses.
    passed: i64,
    bytes: usize,
    bytes_max: usize,
}

/// A response in the log.
struct Logged<E> {
    response: SharedResponse<E>,
    bytes: usize,
    /// All events up to this revision are in this response and those before it.
    reached: i64,
}

impl<E: Clone> SharedLog<E> {
    /// The log of a watch that was created at this revision.
    pub(crate) fn new(created: i64, bytes_max: usize) -> SharedLog<E> {
        SharedLog {
            responses: VecDeque::new(),
            dropped: 0,
            from: created.saturating_add(1),
            passed: created,
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds a response of so many bytes, and drops the oldest ones beyond the bound.
    pub(crate) fn push(&mut self, response: SharedResponse<E>, bytes: usize) {
        let reached = self.reached().max(response.last());
        self.responses.push_back(Logged {
            response,
            bytes,
            reached,
        });
        self.bytes += bytes;
        while self.bytes_max < self.bytes && 1 < self.responses.len() {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(dropped) = self.responses.pop_front() {
            self.bytes -= dropped.bytes;
            self.dropped += 1;
            self.from = self.from.max(dropped.response.last().saturating_add(1));
            self.passed = self.passed.max(dropped.reached);
        }
    }

    /// The revision up to which the log is complete.
    fn reached(&self) -> i64 {
        self.responses
            .back()
            .map_or(self.passed, |last| last.reached)
    }

    /// The member has sent all events up to this revision.
    pub(crate) fn note_reached(&mut self, revision: i64) {
        let reached = match self.responses.back_mut() {
            Some(last) => &mut last.reached,
            None => &mut self.passed,
        };
        *reached = revision.max(*reached);
    }

    /// The first revision that a client with this cursor lacks, which had all events before `next`
    /// when it received the latest one.
    pub(crate) fn position(&self, cursor: u64, next: i64) -> i64 {
        let reached = match cursor.checked_sub(self.dropped) {
            // Events that it does not have were dropped.
            None => return next,
            Some(0) => self.passed,
            Some(at) => {
                let before = usize::try_from(at - 1).ok();
                let before = before.and_then(|before| self.responses.get(before));
                before.map_or(self.reached(), |before| before.reached)
            }
        };
        next.max(reached.saturating_add(1))
    }

    /// The cursor of a client that has all events before `next`. `None`: the log begins later, or a
    /// response has events from before and after.
    pub(crate) fn cursor(&self, next: i64) -> Option<u64> {
        if next < self.from {
            return None;
        }
        let old = |one: &&Logged<E>| one.response.is_old(next);
        let skipped = self.responses.iter().take_while(old);
        let cursor = self.dropped + skipped.count() as u64;
        (!matches!(self.next(cursor, next), Next::Gone)).then_some(cursor)
    }

    /// What a client receives that has all events before `next`. Sets the cursor to the response
    /// itself: the client adds one when it has received it.
    pub(crate) fn take(&self, cursor: &mut u64, next: i64) -> Next<SharedResponse<E>> {
        loop {
            match self.next(*cursor, next) {
                // The client was ahead of the log when it began.
                Next::Response(response) if response.is_old(next) => *cursor += 1,
                found => return found,
            }
        }
    }

    fn next(&self, cursor: u64, next: i64) -> Next<SharedResponse<E>> {
        let Some(at) = cursor.checked_sub(self.dropped) else {
            return Next::Gone;
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let Some(Logged { response, .. }) = self.responses.get(at) else {
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

    /// The numbers of revisions with and without an event of the range, whether the member states
    /// its progress, the position of a client that begins, and which clients read.
    fn step() -> impl Strategy<Value = ([i64; 2], bool, Option<i64>, usize)> {
        (
            [0..4_i64, 0..3_i64],
            any::<bool>(),
            prop::option::of(0..60_i64),
            0..9_usize,
        )
    }

    /// A client reads to the end of the log. Returns its position, or `None` once it has left.
    fn read(
        log: &SharedLog<Vec<i64>>,
        events: &[i64],
        (cursor, next): (&mut u64, i64),
    ) -> Option<i64> {
        let mut next = next;
        loop {
            let position = log.position(*cursor, next);
            assert!(!events.iter().any(|one| (next..position).contains(one)));
            match log.take(cursor, next) {
                Next::Response(SharedResponse {
                    events: Some(shared),
                    ..
                }) => {
                    let expected = events
                        .iter()
                        .filter(|one| (next..=shared.last).contains(one));
                    assert!(shared.encoded.iter().eq(expected));
                    next = shared.last + 1;
                }
                Next::Response(progress) => assert!(next <= progress.header.revision + 1),
                Next::End => {
                    assert!(!events.iter().any(|one| next <= *one));
                    return Some(next);
                }
                Next::Gone => return None,
            }
            *cursor += 1;
        }
    }

    proptest! {
        /// Clients begin anywhere and read at any time. What they receive has no gap and no
        /// event twice, and no event lies before the position from which a client continues.
        #[test]
        fn a_client_receives_every_event_once_or_leaves(
            created in 0..20_i64,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut log = SharedLog::new(created, 12);
            let mut revision = created;
            let mut events: Vec<i64> = vec![];
            // The cursor of each client, and the next revision.
            let mut clients: Vec<(u64, i64)> = vec![];
            for ([more, quiet], stated, begins, reads) in steps {
                revision += quiet;
                let (first, last) = (revision + 1, revision + more);
                events.extend(first..=last);
                revision = last;
                log.push(response(first, last), more.max(1) as usize);
                if stated {
                    revision += quiet;
                    log.note_reached(revision);
                }
                prop_assert!(log.bytes <= 12);
                if let Some(next) = begins {
                    clients.extend(log.cursor(next).map(|cursor| (cursor, next)));
                }
                let mut n = 0;
                clients.retain_mut(|(cursor, next)| {
                    n += 1;
                    let reads = n % 9 <= reads;
                    let at = if reads { read(&log, &events, (cursor, *next)) } else { Some(*next) };
                    *next = at.unwrap_or(*next);
                    at.is_some()
                });
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

    #[test]
    fn a_client_of_a_quiet_log_continues_from_where_the_member_has_stated_to_be() {
        let mut log = SharedLog::new(10, 100);
        assert_eq!(log.position(0, 11), 11);
        log.note_reached(500);
        assert_eq!(log.position(0, 11), 501);
        // It has not received the response.
        log.push(response(600, 600), 1);
        log.note_reached(900);
        assert_eq!(log.position(0, 11), 501);
        assert_eq!(log.position(1, 601), 901);
        // A late statement takes nothing back.
        log.note_reached(700);
        assert_eq!(log.position(1, 601), 901);
    }
}
