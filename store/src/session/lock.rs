//! Locks.

use bytes::Bytes;

use super::HeldPlace;
use crate::{Error, Lease, Store};

/// A lock that is held, from [`Store::lock`].
///
/// Dropping it gives the lock up in the background, as far as no other call with the same lease may
/// have it; [`Lock::unlock`] does so with an answer. If neither succeeds, the lock is free when the
/// lease ends. The lock itself renews nothing: keep the [`Lease`].
#[must_use = "a lock is given up when it is dropped"]
pub struct Lock(HeldPlace);

impl Store {
    /// Waits until the lease has the lock of that name, in the order of the calls: etcd's `Lock`,
    /// with the same keys, so that etcd's clients contend for it as well. Calls with one lease
    /// share the lock, as in etcd. A dropped future gives its place up. If that is also the place
    /// of another wait with the same lease, or if others delete the key, the wait goes on at the
    /// end of the queue.
    ///
    /// ```no_run
    /// # async fn example(store: keelson_store::Store) -> Result<(), keelson_store::Error> {
    /// let lease = store.lease(10).await?;
    /// let lock = store.lock("backup", &lease).await?;
    /// tokio::select! {
    ///     () = lock.lost() => eprintln!("another program may have it now"),
    ///     () = back_up(lock.revision()) => lock.unlock().await?,
    /// }
    /// # Ok(())
    /// # }
    /// # async fn back_up(_fencing_token: i64) {}
    /// ```
    ///
    /// # Errors
    /// `SessionExpired` once the lease is lost; `Stopped`;
    /// `TooManyRequests` if too many calls wait; those of [`Store::txn`] and [`Store::range`].
    pub async fn lock(&self, name: impl AsRef<[u8]>, lease: &Lease) -> Result<Lock, Error> {
        Ok(Lock(
            HeldPlace::first(self, name.as_ref(), None, lease).await?,
        ))
    }
}

impl Lock {
    /// The key, `name/lease` with the lease in hex. It exists while the lock is held: a
    /// transaction that compares its revision of creation changes nothing after that.
    pub fn key(&self) -> &Bytes {
        self.0.place.key()
    }

    /// The revision at which the key was created: the fencing token. A later holder has a higher
    /// one.
    pub fn revision(&self) -> i64 {
        self.0.place.created()
    }

    /// Whether the lease is confirmed for this moment, as [`Lease::is_alive`]. A deletion of the
    /// key by others is only in [`Lock::lost`].
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Resolves when the lock is lost: with its lease, by a deletion of its key, or with the
    /// member. Cancel safe.
    pub async fn lost(&self) {
        self.0.lost().await;
    }

    /// Gives the lock up, also for other calls that have it with the same lease. If the future is
    /// dropped or fails, that goes on in the background.
    ///
    /// # Errors
    /// `SessionExpired` if the lock was lost before; those of [`Store::txn`].
    pub async fn unlock(self) -> Result<(), Error> {
        self.0.end().await
    }
}
