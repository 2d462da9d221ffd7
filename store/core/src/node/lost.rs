//! Detection of a log that ends before an entry which this member has acknowledged.
//!
//! A leader's heartbeat commits no more than the follower has acknowledged. If it commits more than
//! this log has, acknowledged entries are missing: the disk was lost, or the data directory is an
//! older copy. raft-rs panics on such a heartbeat.

use raft::eraftpb::{self, MessageType};

use super::Node;
use crate::{Index, MemberId};

/// The number of consecutive heartbeats that prove it: a single one may be forged, and the leader
/// sends one every 100 ms.
const HEARTBEATS: u32 = 3;

/// Acknowledged entries are missing from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log of this member, {member}, ends at entry {last}, but it has acknowledged entry \
     {commit} to the leader, {leader}: its data was lost, or the data directory is an older copy. \
     It must not vote with what is left: call `etcdctl member remove {member}` and `etcdctl \
     member add`, empty the data directory, and start it with --initial-cluster-state=existing"
)]
pub struct LogLost {
    /// This member.
    pub member: MemberId,
    /// The leader, which recorded the acknowledgement.
    pub leader: MemberId,
    /// The last entry of the log.
    pub last: Index,
    /// The acknowledged entry.
    pub commit: Index,
}

impl Node {
    /// Whether a message is such a heartbeat: it must not reach raft-rs.
    pub(super) fn commits_lost_entries(&mut self, message: &eraftpb::Message) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        if message.msg_type != MessageType::MsgHeartbeat || message.term < raft.term {
            return false;
        }
        if message.commit <= last {
            self.heartbeats_beyond_log = 0;
            return false;
        }
        self.heartbeats_beyond_log += 1;
        if self.heartbeats_beyond_log == HEARTBEATS {
            self.lost = Some(LogLost {
                member: self.config.member,
                leader: MemberId(message.from),
                last: Index(last),
                commit: Index(message.commit),
            });
        }
        true
    }
}
