//! A session's place in the queue of a lock or an election: etcd's `clientv3/concurrency`.
//!
//! The queue `name` is the keys below `name/`, in the order of their creation. Each key is a
//! session's: its last part is the session's lease in hex, and it goes with the lease. The session
//! of the first key has the lock, or leads. Each other one waits for the deletion of the key before
//! its own, so that one deletion wakes one session.

mod undo;

use std::convert::Infallible;
use std::mem;
use std::panic;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::*;
use tokio::time::sleep;
use tonic::{Code, Status};

use self::undo::{PlaceKey, Undo};
use super::Unread;
use super::changes::{Change, Changes};
use super::requests::{created_at, put, put_again, range, read, when};
use crate::Error;
use crate::backend::{Backend, NoAnswer};
use crate::large::Room;

/// The time to live of a session that a call creates, in seconds: etcd's `defaultSessionTTL`.
const SESSION_TTL: i64 = 60;

/// The interval at which a call that waits renews the session that it created: a third of its time,
/// as clients do.
const RENEWAL: Duration = Duration::from_secs(20);

/// A call that waits holds about as many copies of the queue's name.
const NAME_COPIES: usize = 4;

/// What else it holds, in bytes: its task, its watch, its transaction.
const CALL_BYTES: usize = 2048;

/// A queue, as a call that waits in it holds it.
#[derive(Clone)]
pub(super) struct Queue {
    /// The call's own copy: the request's may be part of a buffer of a whole message.
    pub(super) name: Bytes,
    /// The call's share of the memory of all that wait. What goes on after the call's end keeps
    /// it, so that calls that are cancelled at once are as bounded as those that wait.
    _room: Room,
}

impl Queue {
    /// Admits a call that waits.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn admit(name: Bytes, unread: &Unread) -> Result<Queue, Status> {
        Ok(Queue {
            _room: unread.waits(CALL_BYTES + NAME_COPIES * name.len())?,
            name: Bytes::copy_from_slice(&name),
        })
    }
}

/// A place in a queue. Unless it is kept, it is given up when it is dropped, also with a call whose
/// client is gone.
pub(super) struct Place<B: Backend> {
    backend: B,
    queue: Queue,
    /// The session's key.
    pub(super) key: Bytes,
    /// The revision of the key's creation.
    pub(super) revision: i64,
    /// The session's lease.
    pub(super) lease: i64,
    undo: Undo,
}

/// A place that was taken.
pub(super) struct Taken<B: Backend> {
    pub(super) place: Place<B>,
    /// The header of the transaction.
    pub(super) header: ResponseHeader,
    /// Whether the place is the first.
    pub(super) is_first: bool,
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

/// Takes a place, or finds the session's. The session's key gets the value, if there is one.
///
/// This runs to its end when the call is dropped: until the transaction has an outcome, it is
/// unknown what has to be undone.
///
/// # Errors
/// Those of a grant and of a transaction.
pub(super) async fn take<B: Backend>(
    backend: &B,
    queue: Queue,
    lease: i64,
    value: Option<Bytes>,
) -> Result<Taken<B>, Error> {
    let taking = tokio::spawn(Place::take(backend.clone(), queue, lease, value));
    match taking.await {
        Ok(taken) => taken,
        Err(error) => match error.try_into_panic() {
            Ok(panicked) => panic::resume_unwind(panicked),
            Err(_) => Err(Error::Stopped),
        },
    }
}

impl<B: Backend> Place<B> {
    async fn take(
        backend: B,
        queue: Queue,
        lease: i64,
        value: Option<Bytes>,
    ) -> Result<Taken<B>, Error> {
        let id = session(&backend, lease).await?;
        let mut place = Place {
            key: key(&queue.name, id),
            queue,
            revision: 0,
            lease: id,
            undo: match lease {
                0 => Undo::Lease(id),
                _ => Undo::Nothing,
            },
            backend,
        };
        let taking = place.taking(value);
        match place.backend.txn_with_late_answer(taking).await {
            Ok(answer) => {
                let (header, is_first) = place.found(answer);
                Ok(Taken {
                    place,
                    header,
                    is_first,
                })
            }
            Err(NoAnswer { error, late }) => {
                if let (Some(late), Undo::Nothing) = (late, &place.undo) {
                    // Without an answer in a minute the key ends with its lease.
                    tokio::spawn(async move { late.await.map(|answer| place.found(answer)) });
                }
                Err(error)
            }
        }
    }

    /// The place is as the transaction's answer has it. Returns the header, and whether the place
    /// is the first.
    fn found(&mut self, answer: TxnResponse) -> (ResponseHeader, bool) {
        let succeeded = answer.succeeded;
        let header = answer.header.unwrap_or_default();
        let mut reads = answer.responses.into_iter().skip(1).map(read);
        self.revision = match succeeded {
            true => header.revision,
            false => reads.next().flatten().map_or(0, |own| own.create_revision),
        };
        if let Undo::Nothing = self.undo {
            self.undo = Undo::Key(PlaceKey {
                key: self.key.clone(),
                created: self.revision,
                modified: header.revision,
            });
        }
        let first = reads.next().flatten();
        let is_first = first.is_none_or(|first| first.create_revision == self.revision);
        (header, is_first)
    }

    /// The transaction that creates the key, or puts it again, and reads the queue. A value
    /// replaces that of another call; without one, that remains.
    fn taking(&self, value: Option<Bytes>) -> TxnRequest {
        let key = || self.key.clone();
        let mut first = first_key(&self.queue.name);
        first.keys_only = true;
        let own = RangeRequest {
            key: key(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let again = match value.clone() {
            Some(value) => put(key(), value, self.lease),
            None => put_again(key()),
        };
        when(
            created_at(key(), 0),
            vec![
                put(key(), value.unwrap_or_default(), self.lease),
                range(first.clone()),
            ],
            vec![again, range(own), range(first)],
        )
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
        let (from, to) = keys(&self.queue.name);
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
        self.undo.begin(&self.backend, &self.queue);
    }
}

/// Renews a lease. A failure needs no answer: the key ends with the lease, which the call sees.
async fn renew<B: Backend>(backend: &B, id: i64) -> Infallible {
    loop {
        sleep(RENEWAL).await;
        let _ = backend.lease_keep_alive(id).await;
    }
}

#[cfg(test)]
mod tests;
