//! Mutants: mistakes that a shell around the core can make, to prove that the tests can fail.
//!
//! Each is a small switch in the simulated shell, so the product contains none of them. Every one
//! must be caught: `tests/tests/it/sim.rs`.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Answers a put when the leader has it in its log, before it is committed.
    AckBeforeCommit,
    /// Reports a vote as durable without a sync.
    VoteNotSynced,
    /// Reports everything as durable without a sync.
    NothingSynced,
    /// Answers a linearizable read from local state if the member takes itself for the leader.
    ReadWithoutQuorum,
    /// Answers a linearizable read before the state machine has reached its index.
    ReadBeforeApply,
    /// Sends messages that promise durability before the sync.
    SendBeforeSync,
    /// Hands a follower's request to consensus twice.
    ForwardTwice,
    /// Lets duplicates through the transport.
    DuplicatesPass,
    /// Proposes a request once more, under a new name, when its client gives up.
    RetrySilently,
    /// Truncates the log up to the applied index, not up to the engine's.
    TruncateTooFar,
    /// Writes the engine's rows without the mark of the applied index.
    FlushWithoutMark,
    /// Writes half of a flush when the process dies.
    FlushTorn,
    /// Acknowledges a received snapshot and goes on with the old state.
    SnapshotIgnored,
    /// Sends a snapshot that claims the present index and has older state.
    SnapshotStale,
    /// Leaves the membership out of a snapshot.
    SnapshotWithoutMembership,
    /// Leaves tombstones out of a snapshot.
    SnapshotWithoutTombstones,
    /// Accepts a snapshot that was damaged on its way.
    SnapshotUnchecked,
    /// Treats damage to the log as a torn write, and goes on without the damaged part.
    DamageRepaired,
    /// Skips the comparison with the engine's state at its start.
    BeganUnchecked,
    /// Goes on without a row of the engine that does not decode.
    EngineDamagePassed,
    /// Goes on although the leader shows that acknowledged entries are gone.
    LossIgnored,
    /// Restarts under its old id with an empty disk.
    LostDiskVotes,
    /// Every incarnation of a member has the same number.
    BootReused,
    /// One member skips an entry.
    EntrySkipped,
    /// Forgets the last entry of the log at a restart.
    TailForgotten,
    /// Forgets term and vote at a restart.
    HardStateForgotten,
    /// Sometimes leaves out the previous pair of a put's answer.
    PreviousPairLost,
    /// Reports a request as refused when only its answer was lost.
    UnknownIsRefused,
    /// Members hold as much as the product allows where the run's bounds are small.
    MemoryUnbounded,
    /// Expires nodes of the v2 tree by the clock of the member that applies the entry.
    ExpiryByOwnClock,
    /// A new leader gives no grace to nodes of earlier terms.
    GraceForgotten,
    /// A new leader's grace begins with its election, before it has applied all entries of earlier
    /// terms.
    GraceAtElection,
    /// Forgets the v2 tree's events at a restart.
    HistoryForgotten,
    /// Leaves the v2 tree out of a snapshot.
    SnapshotWithoutTree,
    /// Names in-order files by the entry's index in the log.
    InOrderByRaftIndex,
    /// A compare uses createdIndex.
    SwapByCreated,
    /// A refresh notifies watchers.
    RefreshWakes,
    /// Counts a watcher only once it is registered: changes applied after its scan of the history,
    /// while there is no other watcher, are not sent.
    WatcherCountedLate,
    /// Sends watchers none of the missed events when a snapshot is installed.
    ResumeForgotten,
    /// Sends a watcher the missed events from one index too early.
    ResumeRepeats,
    /// Numbers envelopes from the beginning on a rebuilt link.
    NumbersRestart,
    /// A silent sender keeps the snapshot slot, even when another leader offers a snapshot.
    PlaceKept,
    /// Proposes membership changes without checking the members' health.
    ChangesUnchecked,
    /// Reports a batch of the log as durable when it is only written.
    PersistedEarly,
    /// Lets reads join a batch whose ReadIndex request has been sent already.
    ReadersJoinLate,
    /// Sometimes answers a local read of the v2 tree from an older view.
    LocalReadOld,
    /// Sends watchers of the v3 API the events of puts that are only appended.
    EventBeforeCommit,
    /// Deletes rows that a compaction gives up before their events are delivered.
    EventLostAtCompaction,
    /// Answers progress requests while events are on their way.
    ProgressTooEarly,
    /// The watches of the v3 API go on with the old state when a snapshot is installed.
    SnapshotUnseenByWatches,
    /// Expires leases by an entry of a later term than that of the leader which proposed it.
    LeaseExpiredByOldLeader,
    /// Answers the renewal of a lease without a read that confirms the leadership.
    RenewalUnconfirmed,
    /// Gives a lock when the key before is deleted, without the read that follows.
    LockGivenTwice,
    /// Gives up the place of a cancelled call although another call of its session has found it.
    LockGivenUpForAll,
    /// Does not renew the session that a call for a lock has created, while the call waits.
    OwnSessionEnds,
    /// Goes on renewing that session when the call is answered.
    OwnSessionStays,
    /// Replaces the value of an election's leader without a look at its key.
    ProclaimUnchecked,
    /// Shows observers the leader of a member's own state.
    ObservedLocally,
    /// Checks no rights for transactions within others.
    NestedUnchecked,
    /// Checks rights before a proposal alone, and not when it is applied.
    RightsOfProposal,
    /// Goes on sending a watch its events when its user has lost the right.
    WatchOutlivesRights,
    /// Leaves users and roles out of a snapshot.
    SnapshotWithoutAuth,
    /// The running hash of a received snapshot begins anew.
    HashOfSnapshotForgotten,
    /// Goes on serving when the majority's hash is another one.
    VerdictIgnored,
    /// The verdict has the leader's own hash in place of the majority's.
    VerdictOfLeader,
    /// A client has no user where its login is not applied yet.
    LoginUnseen,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Mutant; 66] = [
        Mutant::AckBeforeCommit,
        Mutant::VoteNotSynced,
        Mutant::NothingSynced,
        Mutant::ReadWithoutQuorum,
        Mutant::ReadBeforeApply,
        Mutant::SendBeforeSync,
        Mutant::ForwardTwice,
        Mutant::DuplicatesPass,
        Mutant::RetrySilently,
        Mutant::TruncateTooFar,
        Mutant::FlushWithoutMark,
        Mutant::FlushTorn,
        Mutant::SnapshotIgnored,
        Mutant::SnapshotStale,
        Mutant::SnapshotWithoutMembership,
        Mutant::SnapshotWithoutTombstones,
        Mutant::SnapshotUnchecked,
        Mutant::DamageRepaired,
        Mutant::BeganUnchecked,
        Mutant::EngineDamagePassed,
        Mutant::LossIgnored,
        Mutant::LostDiskVotes,
        Mutant::BootReused,
        Mutant::EntrySkipped,
        Mutant::TailForgotten,
        Mutant::HardStateForgotten,
        Mutant::PreviousPairLost,
        Mutant::UnknownIsRefused,
        Mutant::MemoryUnbounded,
        Mutant::ExpiryByOwnClock,
        Mutant::GraceForgotten,
        Mutant::GraceAtElection,
        Mutant::HistoryForgotten,
        Mutant::SnapshotWithoutTree,
        Mutant::InOrderByRaftIndex,
        Mutant::SwapByCreated,
        Mutant::RefreshWakes,
        Mutant::WatcherCountedLate,
        Mutant::ResumeForgotten,
        Mutant::ResumeRepeats,
        Mutant::ChangesUnchecked,
        Mutant::NumbersRestart,
        Mutant::PlaceKept,
        Mutant::LocalReadOld,
        Mutant::PersistedEarly,
        Mutant::ReadersJoinLate,
        Mutant::EventBeforeCommit,
        Mutant::EventLostAtCompaction,
        Mutant::ProgressTooEarly,
        Mutant::SnapshotUnseenByWatches,
        Mutant::LeaseExpiredByOldLeader,
        Mutant::RenewalUnconfirmed,
        Mutant::LockGivenTwice,
        Mutant::LockGivenUpForAll,
        Mutant::OwnSessionEnds,
        Mutant::OwnSessionStays,
        Mutant::ProclaimUnchecked,
        Mutant::ObservedLocally,
        Mutant::NestedUnchecked,
        Mutant::RightsOfProposal,
        Mutant::WatchOutlivesRights,
        Mutant::SnapshotWithoutAuth,
        Mutant::HashOfSnapshotForgotten,
        Mutant::VerdictIgnored,
        Mutant::VerdictOfLeader,
        Mutant::LoginUnseen,
    ];

    /// Whether only clients with v3 watches can detect the mutant.
    pub(in crate::sim) fn is_of_watches(self) -> bool {
        matches!(
            self,
            Mutant::EventBeforeCommit
                | Mutant::EventLostAtCompaction
                | Mutant::ProgressTooEarly
                | Mutant::SnapshotUnseenByWatches
                | Mutant::WatchOutlivesRights
        )
    }

    /// Whether only clients of the v2 API can detect the mutant.
    pub(super) fn is_of_the_tree(self) -> bool {
        matches!(
            self,
            Mutant::ExpiryByOwnClock
                | Mutant::GraceForgotten
                | Mutant::GraceAtElection
                | Mutant::HistoryForgotten
                | Mutant::SnapshotWithoutTree
                | Mutant::InOrderByRaftIndex
                | Mutant::SwapByCreated
                | Mutant::RefreshWakes
                | Mutant::WatcherCountedLate
                | Mutant::ResumeForgotten
                | Mutant::ResumeRepeats
                | Mutant::LocalReadOld
        )
    }

    /// The mutant of that name, as `Debug` prints it.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL
            .into_iter()
            .find(|mutant| format!("{mutant:?}") == name)
    }
}
