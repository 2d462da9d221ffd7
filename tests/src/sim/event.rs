//! What is planned on the virtual clock, and what waits for an answer.

use keelson_core::member::TransferNumber;
use keelson_core::{Index, MemberId, ProposalId};

use super::lock::CallEvent;
use super::net::Envelope;
use super::snapshots::Audit;
use super::transfers::Transfer;

/// The kinds of event. An event for an incarnation that has ended has no effect.
pub(super) enum Event {
    /// A member takes its turn.
    Turn(MemberId, u64),
    /// A batch arrives.
    Deliver(Box<Envelope>),
    /// The other members have answered a query for the member list.
    PeersAnswer(MemberId, u64),
    /// A log's sync ends.
    Synced(MemberId, u64),
    /// A log checks whether it is still idle.
    LogPause(MemberId, u64),
    /// An applier takes its work.
    Apply(MemberId, u64),
    /// An applier is due.
    ApplierDue(MemberId, u64),
    /// The engine has stored what was flushed.
    Flushed(MemberId, u64, Index),
    /// A snapshot is offered to its receiver.
    SnapshotOffer(Box<Transfer>),
    /// A snapshot's sender reads the next piece.
    SnapshotPiece(Box<Transfer>),
    /// A piece, or the end of all pieces, reaches the receiver.
    PieceArrives(Box<Transfer>),
    /// A receiver checks whether a transfer has brought more than this number of pieces.
    PieceOverdue(MemberId, u64, TransferNumber, usize),
    /// A transfer ends in favour of another one.
    Evicted(MemberId, u64, TransferNumber),
    /// The next piece of a member's state is read for a comparison.
    AuditPiece(Box<Audit>),
    /// A sender gets the result of its snapshot.
    SnapshotSent(MemberId, u64, MemberId, bool),
    /// A member is notified that another has died, or is back.
    Notice(MemberId, u64, MemberId, bool),
    /// A client sends a request.
    Client(u64),
    /// A client's request times out.
    GiveUp(usize),
    /// A request of a client of the v2 API times out.
    TreeGiveUp(usize),
    /// A request reaches the member's timeout, whether a client waits for it or not.
    Forget(ProposalId),
    /// A watcher of the v2 tree reads new events.
    Watch(usize),
    /// A watcher that has scanned a member's history is registered there.
    WatcherEnters(MemberId, u64),
    /// A member sends its watchers some of the queued events.
    DeliverEvents(MemberId, u64),
    /// A client with a stream of v3 watches takes its turn.
    StreamClient(usize),
    /// A member delivers some revisions to the streams of v3 watches.
    FanOut(MemberId, u64),
    /// A member checks which nodes of the v2 tree are due.
    Expirer(MemberId, u64),
    /// A member's lessor is due.
    Lessor(MemberId, u64),
    /// A member's lessor makes a refused proposal again.
    LessorAgain(MemberId, u64, u64),
    /// The renewal with that number, of that lease, reaches a member.
    Renewal(MemberId, u64, u64, i64),
    /// A holder of a lease sends a request.
    Holder(usize),
    /// A holder's operation times out.
    HolderGivesUp(usize, u64),
    /// A contender for locks takes its turn, or gives up the operation with that number.
    Contender(usize, Option<u64>),
    /// An observer of an election takes its turn.
    Observer(usize),
    /// Something happens to the call for a lock with that number, at a member.
    LockCall(MemberId, u64, u64, CallEvent),
    /// The administrator of auth takes its turn, or gives up the change with that number.
    Admin(Option<u64>),
    /// A fault is injected.
    Fault,
    /// A machine is switched on.
    Start(MemberId),
    /// The operator takes a machine away.
    Retire(MemberId),
    /// The operator replaces a dead member.
    Replace,
    /// The operator replaces a member that refuses to go on.
    Repair(MemberId),
    /// A member publishes its URLs.
    Publish(MemberId, u64),
}

/// The origin of a request, which waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A client, for this operation.
    Client(usize),
    /// A client of the v2 API.
    Tree(usize),
    /// The member's expirer, for its read with this number.
    Expirer(u64),
    /// The member's lessor, for its proposal with this number.
    Lessor(u64),
    /// A holder of a lease, for its operation with this number.
    Holder(usize, u64),
    /// A member's call for a lock with that number, for its step with this number.
    LockCall(u64, u64),
    /// A contender for locks, for its unlock with this number.
    Unlock(usize, u64),
    /// The administrator of auth, for its change with this number.
    Admin(u64),
}
