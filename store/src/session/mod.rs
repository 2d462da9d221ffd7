//! Locks and elections of programs that embed a store: the queues of etcd's `Lock` and `Election`
//! services, with a lease of the program as the session. Programs and etcd's clients contend for
//! the same keys.

mod election;
mod lock;

use std::time::Duration;

use bytes::Bytes;
use keelson_core::state::Error as StateError;
use tokio::time::sleep;

use crate::edge::waiting::{Place, Queue, Taken, take};
use crate::lease::Confirmed;
use crate::{Error, Lease, Store};

pub use self::election::{ElectionObserver, Leadership};
pub use self::lock::Lock;

/// The pause after a watch of a key has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The first place of a queue. It is given up when it is dropped.
struct HeldPlace {
    store: Store,
    place: Place<Store>,
    session: Confirmed,
}

impl HeldPlace {
    /// Waits until the lease's session has the first place of the queue. A dropped future gives
    /// the place up.
    async fn first(
        store: &Store,
        name: &[u8],
        value: Option<&[u8]>,
        lease: &Lease,
    ) -> Result<HeldPlace, Error> {
        let waits = &store.inner.waits;
        let queue = Queue::admit(name, waits)?;
        let value = value.map(|value| waits.kept(value)).transpose()?;
        let session = lease.confirmed();
        let place = tokio::select! {
            biased;
            error = store.stopped() => Err(error),
            () = session.lost() => Err(Error::SessionExpired),
            place = first_place(store, queue, value, lease.id()) => place,
        }?;
        match session.is_alive() {
            true => Ok(HeldPlace {
                store: store.clone(),
                place,
                session,
            }),
            false => Err(Error::SessionExpired),
        }
    }

    fn is_held(&self) -> bool {
        self.session.is_alive()
    }

    /// Resolves when the session is lost, the key is gone or the member stops.
    async fn lost(&self) {
        let gone = async {
            while self.place.gone().await.is_err() {
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            _ = self.store.stopped() => {}
            () = self.session.lost() => {}
            () = gone => {}
        }
    }

    /// Deletes the key.
    async fn end(self) -> Result<(), Error> {
        match self.place.delete().await? {
            true => Ok(()),
            false => Err(Error::SessionExpired),
        }
    }
}

async fn first_place(
    store: &Store,
    queue: Queue,
    value: Option<Bytes>,
    lease: i64,
) -> Result<Place<Store>, Error> {
    loop {
        let taken = take(store, queue.clone(), lease, value.clone()).await;
        let Taken {
            place, is_first, ..
        } = taken.map_err(expired)?;
        if is_first || place.wait().await?.is_some() {
            return Ok(place);
        }
        // The key is gone, and nothing is left to undo. If the lease is there, another wait with it
        // was dropped: it was the last one to put the key, and has deleted it.
        place.keep();
    }
}

/// A lease that is gone before the place is taken is no other error than one that goes later.
fn expired(error: Error) -> Error {
    match error {
        Error::State(StateError::LeaseNotFound) => Error::SessionExpired,
        other => other,
    }
}

impl Store {
    /// Resolves once the member stops, to that error.
    async fn stopped(&self) -> Error {
        let mut stopping = self.watch_stopping();
        let _ = stopping.wait_for(|stopping| *stopping).await;
        Error::Stopped
    }
}
