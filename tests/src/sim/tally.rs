//! What a run has counted.

/// Counts of what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Events handled.
    pub events: u64,
    /// Faults injected.
    pub faults: u64,
    /// Processes started again.
    pub restarts: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Snapshots damaged on their way.
    pub garbled: u64,
    /// Disks damaged.
    pub damages: u64,
    /// Members that refused to go on.
    pub refused: u64,
    /// Clusters that the damage to all members has left without a quorum.
    pub ended: u64,
    /// Damage that no member can detect and that would cost acknowledged writes: it was undone.
    pub undone: u64,
    /// Damage that no member can detect, and that the leader detects.
    pub decayed: u64,
    /// Entries that a member applied wrongly.
    pub corruptions: u64,
    /// Wrong states that were replaced.
    pub healed: u64,
    /// Membership changes that took effect.
    pub changes: u64,
    /// Elections won.
    pub elections: u64,
    /// Expired nodes of the v2 tree.
    pub expiries: u64,
    /// Leases that have expired.
    pub expired_leases: u64,
    /// Locks given to sessions.
    pub locks: u64,
    /// Changes of users, roles and permissions.
    pub rights: u64,
    /// Requests that were refused for a lack of rights.
    pub denied: u64,
    /// Those of holders of leases and contenders for locks.
    pub denied_sessions: u64,
    /// Events that watchers of the v2 tree received.
    pub watched: u64,
    /// Watches whose history was already cleared.
    pub cleared: u64,
    /// Streams that ended because they were too far behind.
    pub behind: u64,
    /// Watches that went on from a snapshot's history, or were cut there.
    pub resumed: u64,
    /// Events that v3 watches received.
    pub sent: u64,
    /// v3 watches that a compaction has ended.
    pub compacted: u64,
    /// A hash over everything that happened.
    pub trace: u64,
}
