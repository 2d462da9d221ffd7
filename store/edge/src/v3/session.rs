//! A session's place in the queue of a lock or an election: the requests of the core's `lock`, and
//! what happens when their call ends.

mod undo;

use std::convert::Infallible;
use std::panic;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use keelson_core::lock::{self, Turn};
use keelson_proto::etcdserverpb::*;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tonic::{Code, Status};

use self::undo::Undo;
use super::Unread;
use super::changes::{Change, Changes};
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
pub struct Queue {
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
    pub fn admit(name: impl AsRef<[u8]>, unread: &Unread) -> Result<Queue, Error> {
        let name = name.as_ref();
        Ok(Queue {
            _room: unread.waits(CALL_BYTES + NAME_COPIES * name.len())?,
            name: Bytes::copy_from_slice(name),
        })
    }
}

/// A place in a queue. Unless it is kept, it is given up when it is dropped, also with a call whose
/// client is gone.
pub struct Place<B: Backend> {
    backend: B,
    queue: Queue,
    own: lock::Place,
    undo: Undo,
    /// Where the place is given up: it may be dropped by a thread of no runtime.
    runtime: Handle,
}

/// A place that was taken.
pub struct Taken<B: Backend> {
    /// The place.
    pub place: Place<B>,
    /// The header of the transaction.
    pub header: ResponseHeader,
    /// Whether the place is the first.
    pub is_first: bool,
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
pub async fn take<B: Backend>(
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
            own: lock::Place::new(queue.name.clone(), id),
            queue,
            undo: match lease {
                0 => Undo::Lease(id),
                _ => Undo::Nothing,
            },
            runtime: Handle::current(),
            backend,
        };
        let taking = place.own.take(value);
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
        let found = self.own.taken(answer);
        if let Undo::Nothing = self.undo {
            self.undo = Undo::Key(self.own.clone());
        }
        found
    }

    /// Waits until the place is the first, and returns the header of the read that found it so.
    /// `None` if the key is gone, with its lease or otherwise.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn wait(&self) -> Result<Option<ResponseHeader>, Error> {
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
        loop {
            let answer = self.backend.range(self.own.read()).await?;
            let watches = match self.own.turn(answer) {
                Turn::First(header) => return Ok(Some(header)),
                Turn::Gone => return Ok(None),
                Turn::Behind(watches) => watches,
            };
            let changes = Changes::new(&self.backend);
            let mut changes = watches.into_iter().fold(changes, Changes::of);
            while let Change::Put(..) = changes.next().await? {}
        }
    }

    /// Waits until the key is gone, with its lease or otherwise.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn gone(&self) -> Result<(), Error> {
        let mut from = self.own.modified() + 1;
        loop {
            let mut changes = Changes::new(&self.backend).of(self.own.deletion(from));
            if let Change::Deleted = changes.next().await? {
                return Ok(());
            }
            // The changes until then were compacted.
            let answer = self.backend.range(self.own.read()).await?;
            match self.own.turn(answer) {
                Turn::Gone => return Ok(()),
                Turn::First(header) => from = header.revision + 1,
                Turn::Behind(watches) => from = watches[0].start_revision,
            }
        }
    }

    /// Replaces the value of the key. Returns whether the key was there. If this is dropped, the
    /// value may be replaced all the same, and the place remains as long as its lease.
    ///
    /// # Errors
    /// Those of a transaction.
    pub async fn replace(&mut self, value: Bytes) -> Result<bool, Error> {
        let answer = self.backend.txn(self.own.replace(value)).await?;
        let was_there = self.own.replaced(answer);
        if let Undo::Key(_) = self.undo {
            self.undo = Undo::Key(self.own.clone());
        }
        Ok(was_there)
    }

    /// Deletes the key, also if other calls of the session have it. Returns whether it was there.
    /// If this is dropped or fails, the place is given up in the background.
    ///
    /// # Errors
    /// Those of a transaction.
    pub async fn delete(mut self) -> Result<bool, Error> {
        let own = lock::created_at(self.key().clone(), self.created());
        let delete = vec![lock::delete(self.key().clone())];
        let deletion = lock::when(own, delete, Vec::new());
        let answer = self.backend.txn(deletion).await?;
        self.undo = Undo::Nothing;
        Ok(answer.succeeded)
    }

    /// The session's key.
    pub fn key(&self) -> &Bytes {
        self.own.key()
    }

    /// The revision of the key's creation.
    pub fn created(&self) -> i64 {
        self.own.created()
    }

    /// The session's lease.
    pub fn lease(&self) -> i64 {
        self.own.lease()
    }

    /// Keeps the place, and returns its key.
    pub fn keep(mut self) -> Bytes {
        self.undo = Undo::Nothing;
        self.own.key().clone()
    }
}

impl<B: Backend> Drop for Place<B> {
    fn drop(&mut self) {
        self.undo.begin(&self.backend, &self.queue, &self.runtime);
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
