//! Load: what a node may hold in memory, in bytes, and what it does beyond that.
//!
//! A slow disk, a slow engine or a follower that has stopped must not cost memory without a bound
//! (etcd#17098). Beyond a bound the leader refuses proposals, and a follower drops appends as if the
//! network had lost them, which slows the leader down: Raft sends them again.

use std::collections::VecDeque;

use raft::ProgressState;
use raft::eraftpb::{Message, MessageType};

use super::Node;

/// Appends under way to one follower, however small they are.
pub(super) const IN_FLIGHT_MAX: usize = 512;

/// Entries that the log has not made durable yet, by the append that holds them.
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
    /// Whether nothing may be added to the log for now. An uncommitted end of the log alone is no
    /// reason: only more entries, or others, bring its commit about.
    pub(super) fn is_overloaded(&self) -> bool {
        // What this turn has added so far: many messages may have come since the last one.
        let turn_bytes = self.raw.raft.raft_log.unstable.entries_size;
        let log_bytes = self.raw.store().size_bytes() + turn_bytes;
        let log_is_full = self.config.log_bytes_max < log_bytes
            && self.durable < self.raw.raft.raft_log.committed;
        let unpersisted_bytes = self.unpersisted_bytes.bytes + turn_bytes;
        let disk_is_late = self.config.unpersisted_bytes_max < unpersisted_bytes;
        self.backlogged || log_is_full || disk_is_late
    }

    /// raft-rs bounds what is under way to a follower by its number of messages. With large entries in
    /// the log the number follows from the bytes. A paused follower's entries gather in the log, and
    /// go in fewer and larger messages afterwards.
    pub(super) fn bound_in_flight(&mut self) {
        if !self.is_leader() {
            return;
        }
        let log = self.raw.store();
        let bytes_max = self.config.in_flight_bytes_max;
        let message_bytes = usize::try_from(self.config.append_bytes_max).unwrap_or(usize::MAX);
        let message_bytes = message_bytes.max(log.heaviest_bytes()).max(1);
        let max = match log.size_bytes() <= bytes_max {
            true => IN_FLIGHT_MAX,
            false => (bytes_max / message_bytes).clamp(2, IN_FLIGHT_MAX),
        };
        if max == IN_FLIGHT_MAX && self.in_flight_max == IN_FLIGHT_MAX {
            return;
        }
        self.in_flight_max = max;
        // Also for a follower that has come since: it begins with raft-rs's number.
        for (_, progress) in self.raw.raft.mut_prs().iter_mut() {
            progress.ins.set_cap(max);
        }
    }

    /// An answer to a heartbeat lets one more append go, since those under way may be lost. raft-rs frees
    /// one place for it, which is too few where more are under way than may be by now: then nothing
    /// went, and nothing showed that they were lost, for as many heartbeats.
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
