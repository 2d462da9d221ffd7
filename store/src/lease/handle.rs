//! A lease that keeps itself alive.

use std::time::Duration;

use keelson_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Error, Store};

/// A lease that is renewed while this is held. Dropping it ends the renewals; the lease then
/// expires after its time to live.
pub struct Lease {
    store: Store,
    id: i64,
    ttl: i64,
    confirmed: Confirmed,
    task: tokio::task::JoinHandle<()>,
}

/// Until when a lease is confirmed; `None` once it is lost.
#[derive(Clone)]
pub(crate) struct Confirmed(watch::Receiver<Option<Instant>>);

impl Confirmed {
    /// Whether the lease is confirmed for this moment.
    pub(crate) fn is_alive(&self) -> bool {
        let until = *self.0.borrow();
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Resolves when the lease is gone, or was not confirmed for its time to live.
    pub(crate) async fn lost(&self) {
        let mut until = self.0.clone();
        let lost = until.wait_for(Option::is_none).await.is_ok();
        // The renewals may have ended with their handle.
        let last = *self.0.borrow();
        if let (false, Some(last)) = (lost, last) {
            tokio::time::sleep_until(last).await;
        }
    }
}

impl Store {
    /// Grants a lease of that time to live, in seconds, and renews it three times in that time.
    ///
    /// # Errors
    /// Those of [`Store::lease_grant`].
    pub async fn lease(&self, ttl: i64) -> Result<Lease, Error> {
        let began = Instant::now();
        let granted = self.lease_grant(LeaseGrantRequest { ttl, id: 0 }).await?;
        let ttl = Duration::from_secs(granted.ttl.unsigned_abs());
        let (confirmed, until) = watch::channel(Some(began + ttl));
        let store = self.clone();
        let task = tokio::spawn(async move {
            renew(&store, granted.id, ttl, &confirmed).await;
            confirmed.send_replace(None);
        });
        Ok(Lease {
            store: self.clone(),
            id: granted.id,
            ttl: granted.ttl,
            confirmed: Confirmed(until),
            task,
        })
    }
}

/// Renews until the lease is gone, or was not confirmed for its time to live.
async fn renew(store: &Store, id: i64, ttl: Duration, confirmed: &watch::Sender<Option<Instant>>) {
    loop {
        let began = Instant::now();
        let until = confirmed.borrow().unwrap_or(began);
        match tokio::time::timeout_at(until, store.lease_keep_alive(id)).await {
            Ok(Ok(renewed)) if renewed.ttl == 0 => return,
            Ok(Ok(_)) => {
                confirmed.send_replace(Some(began + ttl));
                tokio::time::sleep(ttl / 3).await;
            }
            Ok(Err(Error::Stopped)) | Err(_) => return,
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Lease {
    /// The id, for `PutRequest::lease`.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The granted time to live, in seconds.
    pub fn ttl(&self) -> i64 {
        self.ttl
    }

    /// Whether the lease is confirmed for this moment: its last renewal began less than its time
    /// to live ago. That also holds after the process has stood still.
    pub fn is_alive(&self) -> bool {
        self.confirmed.is_alive()
    }

    /// Resolves when the lease is gone, or could not be confirmed for its time to live. Cancel
    /// safe.
    pub async fn lost(&self) {
        self.confirmed.lost().await;
    }

    pub(crate) fn confirmed(&self) -> Confirmed {
        self.confirmed.clone()
    }

    /// Revokes the lease, which deletes its keys.
    ///
    /// # Errors
    /// Those of [`Store::lease_revoke`].
    pub async fn revoke(self) -> Result<(), Error> {
        let request = LeaseRevokeRequest { id: self.id };
        self.store.lease_revoke(request).await.map(drop)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}
