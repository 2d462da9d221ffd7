//! What messages between members weigh, and a count of what waits: queues are bounded in bytes, since
//! a message may be a hundred bytes or megabytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keelson_proto::peer::{PeerMessage, RaftEntry, peer_message::Message};

/// What a message takes in memory, in bytes.
pub(crate) fn weight(message: &PeerMessage) -> usize {
    let content = match &message.message {
        Some(Message::Raft(raft)) => {
            let entry =
                |entry: &RaftEntry| entry.data.len() + entry.context.len() + size_of::<RaftEntry>();
            raft.context.len() + raft.entries.iter().map(entry).sum::<usize>()
        }
        Some(Message::Forward(forward)) => forward.command.len(),
        _ => 0,
    };
    content + size_of::<PeerMessage>()
}

/// The bytes that wait in a queue.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Counts a message that is about to be queued; `None` if more than `bytes_max` would wait. A
    /// message that finds the queue empty always may.
    pub(super) fn add(&self, bytes: usize, bytes_max: usize) -> Option<Counted> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let counted = Counted {
            waiting: self.clone(),
            bytes,
        };
        (before == 0 || before + bytes <= bytes_max).then_some(counted)
    }
}

/// Bytes that wait, until it is dropped.
pub(super) struct Counted {
    waiting: Waiting,
    pub(super) bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
