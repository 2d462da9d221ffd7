//! Linearizable reads that wait for their read index.

use keelson_core::{Index, Term};

use super::event::Waiter;

/// A linearizable read in progress.
#[derive(Clone, Copy)]
pub(super) struct Read {
    pub(super) asker: ReadOrigin,
    pub(super) committed_at_call: Index,
}

/// The origin of a linearizable read.
#[derive(Clone, Copy)]
pub(super) enum ReadOrigin {
    /// A client, for this operation.
    Client(usize),
    /// The member of a client's operation: the client's login is not applied there.
    Session(usize),
    /// A client of the v2 API.
    Tree(usize),
    /// A leader of that term, for its expirer's read with this number, before anything is expired.
    Expirer(Term, u64),
    /// A member's lessor, for its read with this number.
    Lessor(u64),
    /// A member's call for a lock with that number, for its step with this number.
    LockCall(u64, u64),
    /// An observer of an election, for its read with this number.
    Observer(usize, u64),
}

impl ReadOrigin {
    /// Whether it is that client.
    pub(super) fn is(self, client: Waiter) -> bool {
        match self {
            ReadOrigin::Client(operation) | ReadOrigin::Session(operation) => {
                client == Waiter::Client(operation)
            }
            ReadOrigin::Tree(operation) => client == Waiter::Tree(operation),
            ReadOrigin::LockCall(call, step) => client == Waiter::LockCall(call, step),
            ReadOrigin::Expirer(..) | ReadOrigin::Lessor(_) | ReadOrigin::Observer(..) => false,
        }
    }
}
