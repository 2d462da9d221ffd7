//! What is undone when a place in a queue is given up.

use std::mem;
use std::time::Duration;

use keelson_core::lock;
use keelson_core::state::auth::Caller;
use keelson_proto::etcdserverpb::LeaseRevokeRequest;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::Queue;
use crate::Error;
use crate::backend::Backend;

/// How often a lease that was granted for a call is revoked without success, until that is left to
/// its expiry: it is not renewed any more.
const REVOKE_ATTEMPTS: u32 = 5;

/// The pause after the first attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two attempts. Each pause is twice as long as the one before.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What has to be undone.
#[derive(Debug, Default)]
pub(super) enum Undo {
    /// Nothing: the place is kept, or the transaction was refused.
    #[default]
    Nothing,
    /// The key, if that takes the lock from no other call of the session.
    Key(lock::Place),
    /// The lease, which was granted for the call, and the key with it.
    Lease(i64),
}

impl Undo {
    /// Gives a place up in the background. A runtime that has ended drops the task: the process
    /// ends, and the lease expires.
    pub(super) fn begin<B: Backend>(&mut self, backend: &B, queue: &Queue, runtime: &Handle) {
        let undo = mem::take(self);
        if matches!(undo, Undo::Nothing) {
            return;
        }
        // The user's rights or password may have changed since the place was taken. What is undone
        // is the call's own: the key that it put, or the lease that it was granted.
        let member = backend.acting_as(Caller::Member);
        runtime.spawn(give_up(member, queue.clone(), undo));
    }

    /// The attempts, after which the rest is left to the end of the lease. The lease of a key is
    /// that of a client or an embedder, and may be renewed without end.
    fn attempts(&self) -> u32 {
        match self {
            Undo::Nothing | Undo::Lease(_) => REVOKE_ATTEMPTS,
            Undo::Key(_) => u32::MAX,
        }
    }
}

/// Gives a place up. The queue has the call's share of memory, which is kept until then.
async fn give_up<B: Backend>(backend: B, _queue: Queue, undo: Undo) {
    let mut pause = PAUSE;
    for _ in 0..undo.attempts() {
        let undone = match &undo {
            Undo::Nothing => Ok(()),
            Undo::Lease(id) => {
                let revoke = LeaseRevokeRequest { id: *id };
                backend.lease_revoke(revoke).await.map(|_| ())
            }
            Undo::Key(place) => backend.txn(place.give_up()).await.map(|_| ()),
        };
        match undone {
            Ok(()) | Err(Error::Stopped | Error::State(_)) => return,
            Err(_) => sleep(pause).await,
        }
        pause = PAUSE_MAX.min(2 * pause);
    }
}
