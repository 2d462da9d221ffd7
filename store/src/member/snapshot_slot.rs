//! The single slot for an incoming snapshot. The core's `SnapshotSlot` decides which transfer has
//! it; the transfers wait here.

use std::sync::Arc;
use std::time::Duration;

use keelson_core::member::{Admission, EVICTION_TIMEOUT_MS, Offer, SnapshotSlot, TransferNumber};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tonic::Status;

use crate::peer::Evicted;

/// The slot, shared by the incoming snapshot transfers.
#[derive(Default)]
pub(crate) struct SharedSlot {
    held: Mutex<Holder>,
    freed: Notify,
}

#[derive(Default)]
struct Holder {
    slot: SnapshotSlot,
    /// Signals the holder to end.
    evict: Option<oneshot::Sender<()>>,
}

/// The right to receive a snapshot. Dropping it frees the slot.
pub(crate) struct SlotGuard {
    shared: Arc<SharedSlot>,
    number: TransferNumber,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.shared.held.lock().slot.leave(self.number);
        self.shared.freed.notify_waiters();
    }
}

impl SharedSlot {
    /// Acquires the slot, and first evicts its holder if this offer replaces the holder's. The
    /// returned [`Evicted`] resolves when the new holder must end in turn.
    ///
    /// # Errors
    /// `ResourceExhausted` while another snapshot is being received.
    pub(crate) async fn take(
        self: &Arc<SharedSlot>,
        offer: Offer,
    ) -> Result<(SlotGuard, Evicted), Status> {
        let busy = || Status::resource_exhausted("another snapshot is being received");
        let patience = Duration::from_millis(EVICTION_TIMEOUT_MS);
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.offer(offer) {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => {}
                Err(Busy) => return Err(busy()),
            }
            let waited = tokio::time::timeout_at(deadline, freed).await;
            waited.map_err(|_| busy())?;
        }
    }

    /// Acquires the slot, or evicts its holder.
    fn offer(self: &Arc<SharedSlot>, offer: Offer) -> Result<Option<(SlotGuard, Evicted)>, Busy> {
        let mut holder = self.held.lock();
        match holder.slot.offer(offer) {
            Admission::Taken(number) => {
                let (evict, evicted) = oneshot::channel();
                holder.evict = Some(evict);
                let shared = Arc::clone(self);
                Ok(Some((SlotGuard { shared, number }, evicted)))
            }
            Admission::Evicting { held, first, .. } => {
                if first && let Some(evict) = holder.evict.take() {
                    tracing::info!(
                        ?offer,
                        ?held,
                        "a snapshot transfer is evicted by a newer offer"
                    );
                    let _ = evict.send(());
                }
                Ok(None)
            }
            Admission::Busy => Err(Busy),
        }
    }
}

struct Busy;

#[cfg(test)]
mod tests {
    use keelson_core::MemberId;

    use super::*;

    fn offer(from: u64, term: u64, index: u64) -> Offer {
        Offer {
            from: MemberId(from),
            term,
            index,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_offer_waits_until_the_holder_has_ended() {
        for (later, expected) in [(offer(2, 6, 90), true), (offer(2, 5, 100), false)] {
            let shared = Arc::new(SharedSlot::default());
            let (slot, evicted) = shared.take(offer(1, 5, 100)).await.expect("it is free");
            let holder = async {
                // Only an evicted holder ends; dropping the sender does not evict it.
                if evicted.await.is_ok() {
                    drop(slot);
                }
            };
            let patience = Duration::from_millis(EVICTION_TIMEOUT_MS);
            let (taken, ()) = tokio::join!(shared.take(later), async {
                let _ = tokio::time::timeout(patience, holder).await;
            });
            assert_eq!(taken.is_ok(), expected, "{later:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_leave_is_not_waited_for_without_end() {
        let shared = Arc::new(SharedSlot::default());
        let held = shared.take(offer(1, 5, 100)).await.expect("it is free");
        let refused = shared.take(offer(2, 6, 100)).await;
        assert!(refused.is_err());
        drop(held);
        assert!(shared.take(offer(2, 6, 100)).await.is_ok());
    }
}
