//! Limits on a node's memory, in bytes, and the backpressure beyond them.
//!
//! A slow disk, a slow engine or a stopped follower must not cost unbounded memory (etcd#17098).
//! Beyond a limit the leader refuses proposals. A follower drops appends as if the network had lost
//! them, which slows the leader down: Raft sends them again.

use std::collections::VecDeque;

use raft::ProgressState;
use raft::eraftpb::{Message, MessageType};

use super::Node;

/// The limit on appends in flight to one follower, regardless of their size.
pub(super) const IN_FLIGHT_MAX: usize = 512;

/// The bytes of entries that are not durable yet, by append.
#[derive(Default)]
pub(super) struct Unpersisted {
    appends: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Unpersisted {
    pub(super) fn add(&mut self, number: u64, bytes: usize) {
        if 0 < bytes {
            self.appends.push_back((number, bytes));
            self.bytes += bytes;
        }
    }

    /// Everything up to that append is durable.
    pub(super) fn persisted(&mut self, number: u64) {
        while let Some((append, bytes)) = self.appends.front()
            && *append <= number
        {
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }
}

impl Node {
    /// Whether nothing may be appended for now. Uncommitted entries alone do not count: only
    /// further entries, or others in their place, commit them.
    pub(super) fn is_overloaded(&self) -> bool {
        // The bytes added in this step: many messages may have arrived since the last one.
        let step_bytes = self.raw.raft.raft_log.unstable.entries_size;
        let log_bytes = self.raw.store().size_bytes() + step_bytes;
        let log_is_full = self.config.log_bytes_max < log_bytes
            && self.durable < self.raw.raft.raft_log.committed;
        let unpersisted_bytes = self.unpersisted_bytes.bytes + step_bytes;
        let disk_is_late = self.config.unpersisted_bytes_max < unpersisted_bytes;
        self.backlogged || log_is_full || disk_is_late
    }

    /// Sets raft-rs's limit on the number of appends in flight so that it limits their bytes. While
    /// a follower is paused its entries gather in the log, and are sent in fewer, larger messages
    /// later.
    pub(super) fn bound_in_flight(&mut self) {
        if !self.is_leader() {
            return;
        }
        let log = self.raw.store();
        let bytes_max = self.config.in_flight_bytes_max;
        let message_bytes = usize::try_from(self.config.append_bytes_max).unwrap_or(usize::MAX);
        let message_bytes = message_bytes.max(log.largest_bytes()).max(1);
        let max = match log.size_bytes() <= bytes_max {
            true => IN_FLIGHT_MAX,
            false => (bytes_max / message_bytes).clamp(2, IN_FLIGHT_MAX),
        };
        if max == IN_FLIGHT_MAX && self.in_flight_max == IN_FLIGHT_MAX {
            return;
        }
        self.in_flight_max = max;
        // Also for a follower that was added since: it begins with raft-rs's limit.
        for (_, progress) in self.raw.raft.mut_prs().iter_mut() {
            progress.ins.set_cap(max);
        }
    }

    /// Frees the in-flight window of a follower that answers a heartbeat, so that one more append
    /// can be sent: those in flight may be lost. raft-rs frees one place, which is too few after
    /// the limit has been lowered: nothing was sent then, for as many heartbeats as the window was
    /// over its limit.
    pub(super) fn make_room_in_flight(&mut self, message: &Message) {
        if message.msg_type != MessageType::MsgHeartbeatResponse || !self.is_leader() {
            return;
        }
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(message.from)
            && progress.state == ProgressState::Replicate
        {
            while progress.ins.full() {
                progress.ins.free_first_one();
            }
        }
    }
}
