//! The read book: which linearizable reads wait for which round.
//!
//! One round of heartbeats serves every read that waited when it began; a read that comes later
//! waits for the next round, since the index was taken before it came. Every round has a context of
//! its own, also when it repeats one that failed: reusing it was etcd#20418.

use keelson_proto::peer;

use crate::{Index, MemberId, Millis};

/// Who waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// Clients of this member.
    Local { context: u64 },
    /// A follower, on behalf of its clients.
    Peer {
        member: MemberId,
        context: u64,
        boot: u64,
    },
}

/// A round under way.
struct Round {
    attempt: u64,
    began: Millis,
    readers: Vec<Reader>,
}

#[derive(Default)]
pub(super) struct ReadBook {
    attempts: u64,
    waiting: Vec<Reader>,
    round: Option<Round>,
    /// A leader said that it is none: wait until this before asking again.
    pause_until: Millis,
}

impl ReadBook {
    pub(super) fn add(&mut self, reader: Reader) {
        self.waiting.push(reader);
    }

    /// Begins a round if somebody waits and none is under way. Returns its attempt number.
    pub(super) fn begin(&mut self, now: Millis) -> Option<u64> {
        if self.round.is_some() || self.waiting.is_empty() || now < self.pause_until {
            return None;
        }
        self.attempts += 1;
        let readers = std::mem::take(&mut self.waiting);
        self.round = Some(Round {
            attempt: self.attempts,
            began: now,
            readers,
        });
        Some(self.attempts)
    }

    /// Ends the round with that number; answers nothing if it is not the one under way.
    pub(super) fn end(&mut self, attempt: u64) -> Vec<Reader> {
        match self.round.take_if(|round| round.attempt == attempt) {
            Some(round) => round.readers,
            None => Vec::new(),
        }
    }

    /// Gives the round up; its local readers wait for the next, its peers are returned.
    pub(super) fn abandon(&mut self) -> Vec<Reader> {
        let readers = self
            .round
            .take()
            .map(|round| round.readers)
            .unwrap_or_default();
        let is_local = |reader: &Reader| matches!(reader, Reader::Local { .. });
        let (local, peers): (Vec<_>, Vec<_>) = readers.into_iter().partition(is_local);
        self.waiting.extend(local);
        peers
    }

    /// Takes the peers out of those that wait: this member is not their leader.
    pub(super) fn turn_away_peers(&mut self) -> Vec<Reader> {
        let is_local = |reader: &Reader| matches!(reader, Reader::Local { .. });
        let waiting = std::mem::take(&mut self.waiting);
        let (local, peers) = waiting.into_iter().partition(is_local);
        self.waiting = local;
        peers
    }

    /// The round began so long ago that it is lost.
    pub(super) fn is_late(&self, now: Millis, patience_ms: u64) -> bool {
        let late = |round: &Round| round.began.0 + patience_ms <= now.0;
        self.round.as_ref().is_some_and(late)
    }

    pub(super) fn pause(&mut self, until: Millis) {
        self.pause_until = until;
    }

    /// When to look at the book again. Readers that wait without a round, and not for the end of a
    /// pause, wait for a leader: that is an event, and no time brings it about.
    pub(super) fn wake_at(&self, now: Millis, patience_ms: u64) -> Option<Millis> {
        match &self.round {
            Some(round) => Some(Millis(round.began.0 + patience_ms)),
            None if self.waiting.is_empty() || self.pause_until <= now => None,
            None => Some(self.pause_until),
        }
    }
}

/// The answer for a peer; index 0 says that this member does not lead.
pub(super) fn answer(context: u64, boot: u64, index: Index) -> peer::PeerMessage {
    let response = peer::ReadIndexResponse {
        context,
        boot,
        index: index.0,
    };
    peer::PeerMessage {
        message: Some(peer::peer_message::Message::ReadIndexResponse(response)),
    }
}
