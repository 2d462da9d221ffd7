//! Mutants: mistakes that a shell around the core can make, to prove that the tests can fail.
//!
//! Each is a small switch in the simulated shell, so the product carries none of them. Every one
//! must be caught: `tests/tests/it/sim.rs`.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Answers a put when the leader has it in its log, before it is committed.
    AckBeforeCommit,
    /// Says that a vote is durable without a sync.
    VoteNotSynced,
    /// Says that anything is durable without a sync.
    NothingSynced,
    /// Answers a linearizable read from local state if it believes to lead.
    ReadWithoutQuorum,
    /// Answers a linearizable read before the state machine has reached its index.
    ReadBeforeApply,
    /// Sends what promises something before the sync.
    SendBeforeSync,
    /// Hands a follower's request to consensus twice.
    ForwardTwice,
    /// Lets duplicates through the transport.
    DuplicatesPass,
    /// Proposes a request once more, under a new name, when its client gives up.
    RetrySilently,
    /// Cuts the log to what is applied, not to what the engine holds.
    TruncateTooFar,
    /// Writes the engine's rows without the mark that says how far they go.
    FlushWithoutMark,
    /// Writes half of a flush when the process dies.
    FlushTorn,
    /// Acknowledges a received snapshot and goes on with the old state.
    SnapshotIgnored,
    /// Sends a snapshot that claims the present index and holds older state.
    SnapshotStale,
    /// Leaves the membership out of a snapshot.
    SnapshotWithoutMembership,
    /// Leaves tombstones out of a snapshot.
    SnapshotWithoutTombstones,
    /// Takes a snapshot that was damaged on its way.
    SnapshotUnchecked,
    /// Takes damage to the log for a write that was cut short, and goes on without it.
    DamageRepaired,
    /// Does not look at what the engine held when it began.
    BeganUnchecked,
    /// Goes on without a row of the engine that does not decode.
    EngineDamagePassed,
    /// Goes on although the leader shows that acknowledged entries are gone.
    LossIgnored,
    /// Comes back under its old id with an empty disk.
    LostDiskVotes,
    /// Every life of a member has the same boot number.
    BootReused,
    /// One member skips an entry.
    EntrySkipped,
    /// Forgets the last entry of the log at a restart.
    TailForgotten,
    /// Forgets term and vote at a restart.
    HardStateForgotten,
    /// Leaves out the previous pair of a put's answer, now and then.
    PreviousPairLost,
    /// Tells a client that a request was refused when only its answer was lost.
    UnknownIsRefused,
    /// Members hold as much as the product lets them where the run allows little.
    MemoryUnbounded,
    /// Expires nodes of the v2 tree by the clock of whoever applies it.
    ExpiryByOwnClock,
    /// A new leader spares nothing.
    GraceForgotten,
    /// A new leader's grace begins with its election, before it has applied all of earlier terms.
    GraceAtElection,
    /// Forgets the v2 tree's events at a restart.
    HistoryForgotten,
    /// Leaves the v2 tree out of a snapshot.
    SnapshotWithoutTree,
    /// Names files made in order after the entry in the log.
    InOrderByRaftIndex,
    /// A compare looks at createdIndex.
    SwapByCreated,
    /// A refresh wakes watchers.
    RefreshWakes,
    /// Counts a watcher only once it is registered: what is applied after its look at the history, while there
    /// is no other, is not sent.
    WatcherCountedLate,
    /// Sends watchers nothing of what was missed when a snapshot is installed.
    ResumeForgotten,
    /// Sends a watcher what was missed from one index too early.
    ResumeRepeats,
    /// Counts envelopes from the beginning on a link that is made anew.
    NumbersRestart,
    /// Lets a silent sender keep the place for snapshots, whoever offers one.
    PlaceKept,
    /// Proposes any membership change, whoever is there.
    ChangesUnchecked,
    /// Reports a batch of the log as durable when it is only written.
    PersistedEarly,
    /// Lets reads join a batch for which the leader has been asked already.
    ReadersJoinLate,
    /// Answers a local read of the v2 tree from an older view, now and then.
    LocalReadOld,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Mutant; 46] = [
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
    ];

    /// Whether only clients of the v2 API can notice.
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
