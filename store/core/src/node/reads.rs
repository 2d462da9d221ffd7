//! ReadIndex: which linearizable reads wait for which round (Raft thesis, section 6.4).
//!
//! One round of heartbeats serves every read that waited when it began. A later read waits for the
//! next round, since the index was taken before it arrived. Every round has a context of its own,
//! also when it repeats a failed one: reusing the context was etcd#20418.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::peer;

use crate::{Index, MemberId, Millis};

/// The origin of a read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// Clients of this member.
    Local { context: u64 },
    /// A follower, on behalf of its clients.
    Peer {
        member: MemberId,
        context: u64,
        incarnation: u64,
    },
}

/// A round in progress.
struct Round {
    attempt: u64,
    began: Millis,
    peers: Vec<Reader>,
    /// The contexts of local readers.
    local: BTreeSet<u64>,
}

impl Round {
    fn readers(self) -> Vec<Reader> {
        let local = self.local.into_iter();
        let local = local.map(|context| Reader::Local { context });
        local.chain(self.peers).collect()
    }
}

#[derive(Default)]
pub(super) struct ReadQueue {
    attempts: u64,
    /// Peers that wait for the next round, each with the incarnation and context of its latest
    /// request. A peer sends a new request only after it has given up the one before.
    peers: BTreeMap<MemberId, (u64, u64)>,
    /// The contexts of local readers that wait for the next round. Without a leader they wait until
    /// they give up.
    local: BTreeSet<u64>,
    round: Option<Round>,
    /// No round begins before this time: the last request went to a member that does not lead.
    pause_until: Millis,
}

impl ReadQueue {
    pub(super) fn add(&mut self, reader: Reader) {
        match reader {
            Reader::Local { context } => drop(self.local.insert(context)),
            Reader::Peer {
                member,
                context,
                incarnation,
            } => {
                let latest = self.peers.entry(member).or_default();
                *latest = (*latest).max((incarnation, context));
            }
        }
    }

    /// Removes a local reader whose clients have stopped waiting.
    pub(super) fn cancel(&mut self, context: u64) {
        self.local.remove(&context);
        if let Some(round) = &mut self.round {
            round.local.remove(&context);
        }
    }

    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.peers.is_empty()
    }

    /// Begins a round if reads wait and none is in progress. Returns its attempt number.
    pub(super) fn begin(&mut self, now: Millis) -> Option<u64> {
        if self.round.is_some() || self.is_empty() || now < self.pause_until {
            return None;
        }
        self.attempts += 1;
        self.round = Some(Round {
            attempt: self.attempts,
            began: now,
            peers: self.take_waiting_peers(),
            local: std::mem::take(&mut self.local),
        });
        Some(self.attempts)
    }

    /// Ends the round with that number and returns its readers; none if it is not the current one.
    pub(super) fn end(&mut self, attempt: u64) -> Vec<Reader> {
        match self.round.take_if(|round| round.attempt == attempt) {
            Some(round) => round.readers(),
            None => Vec::new(),
        }
    }

    /// Abandons the round. Its local readers wait for the next one, its peers are returned.
    pub(super) fn abandon(&mut self) -> Vec<Reader> {
        let Some(mut round) = self.round.take() else {
            return Vec::new();
        };
        self.local.append(&mut round.local);
        round.peers
    }

    /// Removes and returns the waiting peers.
    pub(super) fn take_waiting_peers(&mut self) -> Vec<Reader> {
        let peers = std::mem::take(&mut self.peers).into_iter();
        let reader = |(member, (incarnation, context))| Reader::Peer {
            member,
            context,
            incarnation,
        };
        peers.map(reader).collect()
    }

    /// Whether the round has lasted longer than `patience_ms` and counts as lost.
    pub(super) fn is_late(&self, now: Millis, patience_ms: u64) -> bool {
        let late = |round: &Round| round.began.0 + patience_ms <= now.0;
        self.round.as_ref().is_some_and(late)
    }

    pub(super) fn pause(&mut self, until: Millis) {
        self.pause_until = until;
    }

    /// When the queue must be checked again. Readers without a round and without a pause wait for a
    /// leader, which is an event and not a time.
    pub(super) fn wake_at(&self, now: Millis, patience_ms: u64) -> Option<Millis> {
        match &self.round {
            Some(round) => Some(Millis(round.began.0 + patience_ms)),
            None if self.is_empty() || self.pause_until <= now => None,
            None => Some(self.pause_until),
        }
    }
}

/// The answer for a peer; index 0 means that this member does not lead.
pub(super) fn answer(context: u64, incarnation: u64, index: Index) -> peer::PeerMessage {
    let response = peer::ReadIndexResponse {
        context,
        boot: incarnation,
        index: index.0,
    };
    peer::PeerMessage {
        message: Some(peer::peer_message::Message::ReadIndexResponse(response)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While the leader has committed nothing in its term, every request of a peer was kept.
    #[test]
    fn of_a_peers_requests_the_latest_is_kept() {
        let mut book = ReadQueue::default();
        let request = |member, incarnation, context| Reader::Peer {
            member: MemberId(member),
            context,
            incarnation,
        };
        for context in (1..1000).chain([5]) {
            book.add(request(2, 1, context));
        }
        book.add(request(3, 1, 7));
        book.add(request(3, 2, 1));
        let attempt = book.begin(Millis(0)).expect("two peers wait");
        let readers = book.end(attempt).into_iter().map(|reader| match reader {
            Reader::Peer {
                member,
                context,
                incarnation,
            } => (member.0, incarnation, context),
            Reader::Local { .. } => unreachable!("none was added"),
        });
        assert_eq!(readers.collect::<Vec<_>>(), [(2, 1, 999), (3, 2, 1)]);
    }
}
