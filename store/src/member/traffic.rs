//! Statistics of the Raft traffic between members, for `/v2/stats`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use keelson_core::MemberId;
use keelson_core::node::{APPEND, APPEND_RESPONSE};
use keelson_proto::peer::{PeerMessage, RaftMessage, peer_message::Message};
use parking_lot::Mutex;

/// Rates are computed over the latest appends. Both figures are etcd's.
const RECENT: usize = 200;
const RECENT_FOR: Duration = Duration::from_secs(30);

/// Updated by consensus and read by the edge. The lock is held for moments.
#[derive(Default)]
pub(crate) struct Traffic(Mutex<Counts>);

/// The counts at one moment.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    /// Appends that were received.
    pub(crate) received: Flow,
    /// Appends that were sent.
    pub(crate) sent: Flow,
    /// The append latency of each follower.
    pub(crate) followers: BTreeMap<MemberId, Latency>,
    /// The bytes that were received from each peer.
    received_bytes: BTreeMap<MemberId, u64>,
}

/// Appends in one direction.
#[derive(Clone, Default)]
pub(crate) struct Flow {
    pub(crate) count: u64,
    recent: VecDeque<(Instant, usize)>,
}

impl Flow {
    fn count(&mut self, now: Instant, message: &RaftMessage) {
        self.count += 1;
        let bytes = message.entries.iter().map(|entry| entry.data.len()).sum();
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, bytes));
    }

    /// Appends and bytes a second; zero if the latest append is too old.
    pub(crate) fn rates(&self) -> (f64, f64) {
        let (Some((first, _)), Some((last, _))) = (self.recent.front(), self.recent.back()) else {
            return (0.0, 0.0);
        };
        let seconds = last.duration_since(*first).as_secs_f64();
        if RECENT_FOR < last.elapsed() || seconds == 0.0 {
            return (0.0, 0.0);
        }
        let bytes: usize = self.recent.iter().map(|(_, bytes)| bytes).sum();
        (self.recent.len() as f64 / seconds, bytes as f64 / seconds)
    }
}

/// The latency from an append to its response, in milliseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Latency {
    sent_at: Option<Instant>,
    pub(crate) answers: u64,
    pub(crate) failures: u64,
    pub(crate) current: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    sum: f64,
    sum_of_squares: f64,
}

impl Latency {
    fn answered(&mut self, now: Instant) {
        let Some(sent_at) = self.sent_at.take() else {
            return;
        };
        let took = now.duration_since(sent_at).as_secs_f64() * 1e3;
        self.current = took;
        self.min = if self.answers == 0 {
            took
        } else {
            self.min.min(took)
        };
        self.max = self.max.max(took);
        self.answers += 1;
        self.sum += took;
        self.sum_of_squares += took * took;
    }

    pub(crate) fn average(&self) -> f64 {
        self.sum / self.answers.max(1) as f64
    }

    pub(crate) fn deviation(&self) -> f64 {
        let squares = self.sum_of_squares / self.answers.max(1) as f64;
        (squares - self.average().powi(2)).max(0.0).sqrt()
    }
}

impl Traffic {
    /// Counts messages that are about to be sent.
    pub(crate) fn sent<'a>(&self, messages: impl Iterator<Item = &'a (MemberId, PeerMessage)>) {
        let mut appends = messages
            .filter_map(|(to, message)| Some((*to, append(message)?)))
            .peekable();
        if appends.peek().is_none() {
            return;
        }
        let now = Instant::now();
        let mut counts = self.0.lock();
        for (to, message) in appends {
            counts.sent.count(now, message);
            counts
                .followers
                .entry(to)
                .or_default()
                .sent_at
                .get_or_insert(now);
        }
    }

    /// Counts messages that were received.
    pub(crate) fn received(&self, from: MemberId, messages: &[PeerMessage], bytes: usize) {
        let now = Instant::now();
        let mut counts = self.0.lock();
        *counts.received_bytes.entry(from).or_default() += bytes as u64;
        for message in messages {
            match &message.message {
                Some(Message::Raft(raft)) if raft.kind == APPEND => {
                    counts.received.count(now, raft)
                }
                Some(Message::Raft(raft)) if raft.kind == APPEND_RESPONSE => {
                    counts.followers.entry(from).or_default().answered(now);
                }
                _ => {}
            }
        }
    }

    /// Records that messages to that member were lost.
    pub(crate) fn lost(&self, to: MemberId) {
        let mut counts = self.0.lock();
        let follower = counts.followers.entry(to).or_default();
        follower.failures += 1;
        follower.sent_at = None;
    }

    /// The bytes that were received from each peer.
    pub(crate) fn received_bytes(&self) -> BTreeMap<MemberId, u64> {
        self.0.lock().received_bytes.clone()
    }

    /// A copy of the counts.
    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}

fn append(message: &PeerMessage) -> Option<&RaftMessage> {
    match &message.message {
        Some(Message::Raft(raft)) if raft.kind == APPEND => Some(raft),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32) -> PeerMessage {
        let raft = RaftMessage {
            kind,
            ..RaftMessage::default()
        };
        PeerMessage {
            message: Some(Message::Raft(raft)),
        }
    }

    #[test]
    fn an_answer_ends_what_the_first_append_began() {
        let traffic = Traffic::default();
        let peer = MemberId(2);
        let appends = [
            (peer, message(APPEND)),
            (peer, message(APPEND)),
            (peer, message(0)),
        ];
        traffic.sent(appends.iter());
        std::thread::sleep(Duration::from_millis(2));
        let answers = [message(APPEND_RESPONSE), message(APPEND_RESPONSE)];
        traffic.received(peer, &answers, 20);
        assert_eq!(traffic.received_bytes()[&peer], 20);
        traffic.lost(peer);
        let counts = traffic.counts();
        let follower = counts.followers[&peer];
        assert_eq!((counts.sent.count, counts.received.count), (2, 0));
        assert_eq!((follower.answers, follower.failures), (1, 1));
        assert!(2.0 <= follower.current && follower.min == follower.max);
        assert!(follower.deviation() < 1e-6, "of one answer");
    }
}
