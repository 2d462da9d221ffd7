//! A stream of keepalives. A member answers them in order, and each may be repeated.

use std::collections::VecDeque;

use super::{Progress, ResponseHeader, Verdict};

/// The state of a stream of keepalives.
#[derive(Default)]
pub(crate) struct KeepAlives {
    /// The leases whose keepalives have no response, in the order of the requests.
    unanswered: VecDeque<i64>,
    progress: Progress,
}

impl KeepAlives {
    /// The client has sent a keepalive.
    pub(crate) fn request(&mut self, lease: i64) {
        self.unanswered.push_back(lease);
    }

    /// A member has answered the oldest keepalive.
    pub(crate) fn response(&mut self, header: &ResponseHeader) -> Verdict {
        let verdict = self.progress.check(header);
        if verdict == Verdict::Forward {
            self.progress.observe(header);
            self.unanswered.pop_front();
        }
        verdict
    }

    /// The keepalives for another member.
    pub(crate) fn resume(&mut self) -> impl Iterator<Item = i64> {
        self.progress.resume();
        self.unanswered.iter().copied()
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.unanswered.len() * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(revision: i64, raft_term: u64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: 1,
            revision,
            raft_term,
            ..ResponseHeader::default()
        }
    }

    #[test]
    fn what_has_no_response_is_sent_again() {
        let mut stream = KeepAlives::default();
        for lease in [1, 2, 1, 3] {
            stream.request(lease);
        }
        assert_eq!(stream.response(&header(5, 2)), Verdict::Forward);
        assert_eq!(stream.resume().collect::<Vec<_>>(), [2, 1, 3]);
        // A lagging member's response is none.
        assert_eq!(stream.response(&header(4, 2)), Verdict::Lagging);
        assert_eq!(stream.response(&header(5, 1)), Verdict::Lagging);
        assert_eq!(stream.resume().count(), 3);
        assert_eq!(stream.response(&header(5, 3)), Verdict::Forward);
        assert_eq!(stream.resume().collect::<Vec<_>>(), [1, 3]);
    }
}
