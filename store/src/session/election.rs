//! Elections.

use bytes::Bytes;
use keelson_core::lock::first_key;
use keelson_proto::mvccpb::KeyValue;

use super::HeldPlace;
use crate::edge::waiting::{Leaders, Queue};
use crate::{Error, Lease, Store};

/// An election that was won, by [`Store::campaign`].
///
/// Dropping it resigns in the background, as far as no other call with the same lease may lead;
/// [`Leadership::resign`] does so with an answer. If neither succeeds, the leadership ends with the
/// lease.
#[must_use = "a leader resigns when it is dropped"]
pub struct Leadership(HeldPlace);

/// The leaders of an election, from [`Store::observe_election`].
pub struct ElectionObserver {
    store: Store,
    leaders: Leaders<Store>,
}

impl Store {
    /// Waits until the lease leads the election of that name, with a value that observers see:
    /// etcd's `Campaign`, with the same keys, so that etcd's clients are candidates as well. A
    /// dropped future withdraws.
    ///
    /// # Errors
    /// Those of [`Store::lock`].
    pub async fn campaign(
        &self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        lease: &Lease,
    ) -> Result<Leadership, Error> {
        let value = Some(value.as_ref());
        let held = HeldPlace::first(self, name.as_ref(), value, lease).await?;
        Ok(Leadership(held))
    }

    /// The leader's pair, read linearizably; `None` without a leader.
    ///
    /// # Errors
    /// Those of [`Store::range`].
    pub async fn election_leader(&self, name: impl AsRef<[u8]>) -> Result<Option<KeyValue>, Error> {
        let found = self.range(first_key(name.as_ref())).await?;
        Ok(found.kvs.into_iter().next())
    }

    /// Follows the leaders of an election: etcd's `Observe`.
    ///
    /// # Errors
    /// `TooManyRequests` if too many calls wait.
    pub fn observe_election(&self, name: impl AsRef<[u8]>) -> Result<ElectionObserver, Error> {
        let queue = Queue::admit(name.as_ref(), &self.inner.waits)?;
        Ok(ElectionObserver {
            leaders: Leaders::new(self.clone(), queue),
            store: self.clone(),
        })
    }
}

impl Leadership {
    /// The key, `name/lease` with the lease in hex.
    pub fn key(&self) -> &Bytes {
        self.0.place.key()
    }

    /// The revision at which the key was created: the fencing token. A later leader has a higher
    /// one.
    pub fn revision(&self) -> i64 {
        self.0.place.created()
    }

    /// Whether the lease is confirmed for this moment, as [`Lease::is_alive`].
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Resolves when the leadership is lost: with its lease, by a deletion of its key, or with the
    /// member. Cancel safe.
    pub async fn lost(&self) {
        self.0.lost().await;
    }

    /// Replaces the value that observers see. After a dropped future the value may be replaced all
    /// the same, and a drop no longer resigns before the lease ends.
    ///
    /// # Errors
    /// `NotElected` if the leadership was lost; those of [`Store::txn`].
    pub async fn proclaim(&mut self, value: impl Into<Bytes>) -> Result<(), Error> {
        match self.0.place.replace(value.into()).await? {
            true => Ok(()),
            false => Err(Error::NotElected),
        }
    }

    /// Ends the leadership. If the future is dropped or fails, that goes on in the background.
    ///
    /// # Errors
    /// `SessionExpired` if the leadership was lost before; those of [`Store::txn`].
    pub async fn resign(self) -> Result<(), Error> {
        self.0.end().await
    }
}

impl ElectionObserver {
    /// The next leader or value: at first the present leader, once there is one. Cancel safe.
    ///
    /// # Errors
    /// `Stopped`; those of [`Store::range`].
    pub async fn next(&mut self) -> Result<KeyValue, Error> {
        let next = tokio::select! {
            error = self.store.stopped() => Err(error),
            next = self.leaders.next() => next,
        };
        Ok(next?.kv.unwrap_or_default())
    }
}
