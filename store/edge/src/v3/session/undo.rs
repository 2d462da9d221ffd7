//! What is undone when a place in a queue is given up.
//!
//! Several calls of one session have the same key. The key's last revision shows whether a call
//! was the last to find it: each puts it again. A key may be deleted only if no other call can have
//! been answered that it holds the lock or leads:
//! - the call that created the key deletes it if no other call has found it since,
//! - a call that found it deletes it if it was the last, and if an earlier key is in the queue: the
//!   key has never been the first then.
//!
//! etcd deletes the key in any case, and so takes a lock away from the call that was given it.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use keelson_proto::etcdserverpb::{LeaseRevokeRequest, TxnRequest};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::{Queue, keys};
use crate::Error;
use crate::backend::Backend;
use crate::v3::requests::{created_from, delete, modified_at, txn, when};

/// How often a place that was given up is deleted without success, until that is left to the
/// expiry of its lease.
const UNDO_ATTEMPTS: usize = 5;

/// The pause between two attempts.
const UNDO_PAUSE: Duration = Duration::from_secs(1);

/// What has to be undone.
#[derive(Debug, Default)]
pub(super) enum Undo {
    /// Nothing: the place is kept, or the transaction was refused.
    #[default]
    Nothing,
    /// The key.
    Key(PlaceKey),
    /// The lease, which was granted for the call, and the key with it.
    Lease(i64),
}

/// A session's key, as a call has left it.
#[derive(Debug)]
pub(super) struct PlaceKey {
    pub(super) key: Bytes,
    /// The revision of its creation.
    pub(super) created: i64,
    /// The revision of the call's put, which has created it or found it.
    pub(super) modified: i64,
}

impl PlaceKey {
    /// The transaction that deletes it, if that takes the lock from no other call.
    fn deletion(&self, queue: &Queue) -> TxnRequest {
        let delete = vec![delete(self.key.clone())];
        let delete = match self.created == self.modified {
            true => delete,
            false => {
                let (from, to) = keys(&queue.name);
                let is_first = created_from(from, to, self.created);
                vec![txn(when(is_first, Vec::new(), delete))]
            }
        };
        let unchanged = modified_at(self.key.clone(), self.modified);
        when(unchanged, delete, Vec::new())
    }
}

impl Undo {
    /// Gives a place up in the background.
    pub(super) fn begin<B: Backend>(&mut self, backend: &B, queue: &Queue) {
        let undo = mem::take(self);
        if matches!(undo, Undo::Nothing) {
            return;
        }
        // Without a runtime the process ends, and the lease expires.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(give_up(backend.clone(), queue.clone(), undo));
        }
    }
}

/// Deletes the key of a place that was given up.
async fn give_up<B: Backend>(backend: B, queue: Queue, undo: Undo) {
    for _ in 0..UNDO_ATTEMPTS {
        let undone = match &undo {
            Undo::Nothing => Ok(()),
            Undo::Lease(id) => {
                let revoke = LeaseRevokeRequest { id: *id };
                backend.lease_revoke(revoke).await.map(|_| ())
            }
            Undo::Key(key) => backend.txn(key.deletion(&queue)).await.map(|_| ()),
        };
        match undone {
            Ok(()) | Err(Error::Stopped | Error::State(_)) => return,
            Err(_) => sleep(UNDO_PAUSE).await,
        }
    }
}
