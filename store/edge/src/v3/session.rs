//! A session's place in the queue of a lock or an election: etcd's `clientv3/concurrency`.
//!
//! The queue `name` is the keys below `name/`, in the order of their creation. Each key is a
//! session's: its last part is the session's lease in hex, and it goes with the lease. The session
//! of the first key has the lock, or leads. Each other one waits for the deletion of the key before
//! its own, so that one deletion wakes one session.

use std::convert::Infallible;
use std::mem;
use std::panic;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::KeyValue;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::changes::{Change, Changes};
use super::requests::{created_at, delete, put, range, read, when};
use crate::Error;
use crate::backend::Backend;

/// The time to live of a session that a call creates, in seconds: etcd's `defaultSessionTTL`.
const SESSION_TTL: i64 = 60;

/// The interval at which a call that waits renews the session that it created: a third of its time,
/// as clients do.
const RENEWAL: Duration = Duration::from_secs(20);

/// A call that waits holds about as many copies of the queue's name.
pub(super) const NAME_COPIES: usize = 4;

/// How often a place that was given up is deleted without success, until that is left to the
/// expiry of its lease.
const UNDO_ATTEMPTS: usize = 5;

/// The pause between two attempts.
const UNDO_PAUSE: Duration = Duration::from_secs(1);

/// A place in a queue. Unless it is kept, it is given up when it is dropped, also with a call whose
/// client is gone.
pub(super) struct Place<B: Backend> {
    backend: B,
    name: Bytes,
    /// The session's key.
    pub(super) key: Bytes,
    /// The revision of the key's creation.
    pub(super) revision: i64,
    /// The session's lease.
    pub(super) lease: i64,
    undo: Undo,
}

/// What has to be undone when a place is given up.
#[derive(Debug, Default)]
enum Undo {
    /// Nothing: another call of the session created the key.
    #[default]
    Nothing,
    /// The key.
    Key { key: Bytes, revision: i64 },
    /// The lease, which was granted for the call, and the key with it.
    Lease(i64),
}

/// A place that was taken.
pub(super) struct Taken<B: Backend> {
    pub(super) place: Place<B>,
    /// The header of the transaction.
    pub(super) header: ResponseHeader,
    /// Whether the place is the first.
    pub(super) is_first: bool,
    /// The session's pair, if another call had created it.
    pub(super) existing: Option<KeyValue>,
}

/// The keys of a queue.
pub(super) fn keys(name: &[u8]) -> (Bytes, Bytes) {
    let from = [name, b"/"].concat();
    // The byte after '/'.
    let to = [name, b"0"].concat();
    (from.into(), to.into())
}

/// The session's key. Go formats a negative number in hex with its sign.
fn key(name: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let id = format!("/{sign}{:x}", lease.unsigned_abs());
    [name, id.as_bytes()].concat().into()
}

/// The read of a queue's first key.
pub(super) fn first_key(name: &[u8]) -> RangeRequest {
    let (key, range_end) = keys(name);
    RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// The lease of a session: the given one, or a new one in place of 0.
///
/// # Errors
/// Those of a grant.
pub(super) async fn session<B: Backend>(backend: &B, lease: i64) -> Result<i64, Error> {
    if lease != 0 {
        return Ok(lease);
    }
    let grant = LeaseGrantRequest {
        ttl: SESSION_TTL,
        id: 0,
    };
    Ok(backend.lease_grant(grant).await?.id)
}

/// The error of a service that calls others: etcd's internal client keeps their texts and loses
/// their codes. `Unavailable` remains, since a client may retry after that.
pub(super) fn failure(error: Error) -> Status {
    let status = Status::from(error);
    match status.code() {
        Code::Unavailable => status,
        _ => Status::unknown(status.message()),
    }
}

/// Takes a place, or finds the session's.
///
/// This runs to its end when the call is dropped: until the transaction has an outcome, it is
/// unknown what has to be undone.
///
/// # Errors
/// Those of a grant and of a transaction.
pub(super) async fn take<B: Backend>(
    backend: &B,
    name: Bytes,
    lease: i64,
    value: Bytes,
) -> Result<Taken<B>, Error> {
    let taking = tokio::spawn(Place::take(backend.clone(), name, lease, value));
    match taking.await {
        Ok(taken) => taken,
        Err(error) => match error.try_into_panic() {
            Ok(panicked) => panic::resume_unwind(panicked),
            Err(_) => Err(Error::Stopped),
        },
    }
}

impl<B: Backend> Place<B> {
    async fn take(backend: B, name: Bytes, lease: i64, value: Bytes) -> Result<Taken<B>, Error> {
        let id = session(&backend, lease).await?;
        let mut place = Place {
            key: key(&name, id),
            name,
            revision: 0,
            lease: id,
            undo: match lease {
                0 => Undo::Lease(id),
                _ => Undo::Nothing,
            },
            backend,
        };
        let first = || range(first_key(&place.name));
        let own = RangeRequest {
            key: place.key.clone(),
            ..RangeRequest::default()
        };
        let txn = when(
            created_at(place.key.clone(), 0),
            vec![put(place.key.clone(), value, id), first()],
            vec![range(own), first()],
        );
        let answer = place.backend.txn(txn).await?;
        let succeeded = answer.succeeded;
        let header = answer.header.unwrap_or_default();
        let mut reads = answer.responses.into_iter().map(read);
        let (own, first) = (reads.next().flatten(), reads.next().flatten());
        place.revision = own
            .as_ref()
            .map_or(header.revision, |kv| kv.create_revision);
        if succeeded && lease != 0 {
            place.undo = Undo::Key {
                key: place.key.clone(),
                revision: place.revision,
            };
        }
        Ok(Taken {
            is_first: first.is_none_or(|first| first.create_revision == place.revision),
            existing: own,
            header,
            place,
        })
    }

    /// Waits until the place is the first, and returns the header of the read that found it so.
    /// `None` if the key is gone, with its lease or otherwise.
    ///
    /// # Errors
    /// Those of a read.
    pub(super) async fn wait(&self) -> Result<Option<ResponseHeader>, Error> {
        let turn = pin!(self.turn());
        let Undo::Lease(id) = self.undo else {
            return turn.await;
        };
        // In etcd the session of a call ends after 60 s, also while the call waits.
        match future::select(turn, pin!(renew(&self.backend, id))).await {
            Either::Left((turn, _)) => turn,
            Either::Right((never, _)) => match never {},
        }
    }

    async fn turn(&self) -> Result<Option<ResponseHeader>, Error> {
        let (from, to) = keys(&self.name);
        loop {
            let read = RangeRequest {
                key: from.clone(),
                range_end: to.clone(),
                limit: 2,
                max_create_revision: self.revision,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                keys_only: true,
                ..RangeRequest::default()
            };
            let answer = self.backend.range(read).await?;
            let header = answer.header.unwrap_or_default();
            let mut found = answer.kvs.into_iter();
            // No other key has the same revision: its transaction puts only this one.
            if found
                .next()
                .is_none_or(|own| own.create_revision != self.revision)
            {
                return Ok(None);
            }
            let Some(before) = found.next() else {
                return Ok(Some(header));
            };
            let next = header.revision + 1;
            let mut changes = Changes::new(&self.backend)
                .of_deletion(before.key, next)
                .of_deletion(self.key.clone(), next);
            while let Change::Put(..) = changes.next().await? {}
        }
    }

    /// Keeps the place, and returns its key.
    pub(super) fn keep(mut self) -> Bytes {
        self.undo = Undo::Nothing;
        mem::take(&mut self.key)
    }
}

impl<B: Backend> Drop for Place<B> {
    fn drop(&mut self) {
        let undo = mem::take(&mut self.undo);
        if matches!(undo, Undo::Nothing) {
            return;
        }
        // Without a runtime the process ends, and the lease expires.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(give_up(self.backend.clone(), undo));
        }
    }
}

/// Renews a lease. A failure needs no answer: the key ends with the lease, which the call sees.
async fn renew<B: Backend>(backend: &B, id: i64) -> Infallible {
    loop {
        sleep(RENEWAL).await;
        let _ = backend.lease_keep_alive(id).await;
    }
}

/// Deletes the key of a place that was given up.
async fn give_up<B: Backend>(backend: B, undo: Undo) {
    for _ in 0..UNDO_ATTEMPTS {
        let undone = match &undo {
            Undo::Nothing => Ok(()),
            Undo::Lease(id) => {
                let revoke = LeaseRevokeRequest { id: *id };
                backend.lease_revoke(revoke).await.map(|_| ())
            }
            Undo::Key { key, revision } => {
                let own = created_at(key.clone(), *revision);
                let txn = when(own, vec![delete(key.clone())], Vec::new());
                backend.txn(txn).await.map(|_| ())
            }
        };
        match undone {
            Ok(()) | Err(Error::Stopped | Error::State(_)) => return,
            Err(_) => sleep(UNDO_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::Fake;

    #[tokio::test(start_paused = true)]
    async fn a_session_that_a_call_created_is_renewed_while_the_call_waits() {
        let fake = Fake::new(([127, 0, 0, 1], 2379).into());
        let first = take(&fake, "l".into(), 0, Bytes::new()).await.unwrap();
        let second = take(&fake, "l".into(), 0, Bytes::new()).await.unwrap();
        assert!(first.is_first && !second.is_first);
        // The fake holds renewals back, and counts those.
        fake.hold(true);
        let waiting = tokio::spawn(async move { second.place.wait().await });
        // The clock stands still but for timers.
        let ttl = Duration::from_secs(60);
        let renewed = tokio::time::timeout(ttl, fake.held(1)).await;
        renewed.expect("a renewal before the lease ends");
        assert!(!waiting.is_finished());
        // The place is given up while the renewal has no answer.
        drop(first);
        assert!(waiting.await.unwrap().unwrap().is_some());
    }
}
