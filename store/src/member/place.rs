//! The calls that bring snapshots, at the one place for them: what the core's `Place` decides is waited
//! for here.

use std::sync::Arc;
use std::time::Duration;

use keelson_core::member::{Admission, EVICTION_PATIENCE_MS, Offer, Place, TransferNumber};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tonic::Status;

use crate::peer::Evicted;

/// Shared by the calls that bring snapshots.
#[derive(Default)]
pub(crate) struct SharedPlace {
    held: Mutex<Holder>,
    freed: Notify,
}

#[derive(Default)]
struct Holder {
    place: Place,
    /// Evicts the holder.
    evict: Option<oneshot::Sender<()>>,
}

/// Held as long as a snapshot is being received. Dropping it frees the place.
pub(crate) struct Slot {
    place: Arc<SharedPlace>,
    number: TransferNumber,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.place.held.lock().place.leave(self.number);
        self.place.freed.notify_waiters();
    }
}

impl SharedPlace {
    /// Takes the place, from a holder whose offer this one replaces if need be. What is returned beside
    /// the slot is ready when the holder has to end in turn.
    ///
    /// # Errors
    /// `ResourceExhausted` while another snapshot is being received.
    pub(crate) async fn take(
        self: &Arc<SharedPlace>,
        offer: Offer,
    ) -> Result<(Slot, Evicted), Status> {
        let busy = || Status::resource_exhausted("another snapshot is being received");
        let patience = Duration::from_millis(EVICTION_PATIENCE_MS);
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

    /// Takes the place, or evicts its holder.
    fn offer(self: &Arc<SharedPlace>, offer: Offer) -> Result<Option<(Slot, Evicted)>, Busy> {
        let mut holder = self.held.lock();
        match holder.place.offer(offer) {
            Admission::Taken(number) => {
                let (evict, evicted) = oneshot::channel();
                holder.evict = Some(evict);
                let place = Arc::clone(self);
                Ok(Some((Slot { place, number }, evicted)))
            }
            Admission::Evicting { held, first, .. } => {
                if first && let Some(evict) = holder.evict.take() {
                    tracing::info!(?offer, ?held, "a snapshot gives way to another");
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
            let place = Arc::new(SharedPlace::default());
            let (slot, evicted) = place.take(offer(1, 5, 100)).await.expect("it is free");
            let holder = async {
                // Only one that is evicted leaves; dropping the sender of the signal is no signal.
                if evicted.await.is_ok() {
                    drop(slot);
                }
            };
            let patience = Duration::from_millis(EVICTION_PATIENCE_MS);
            let (taken, ()) = tokio::join!(place.take(later), async {
                let _ = tokio::time::timeout(patience, holder).await;
            });
            assert_eq!(taken.is_ok(), expected, "{later:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_leave_is_not_waited_for_without_end() {
        let place = Arc::new(SharedPlace::default());
        let held = place.take(offer(1, 5, 100)).await.expect("it is free");
        let refused = place.take(offer(2, 6, 100)).await;
        assert!(refused.is_err());
        drop(held);
        assert!(place.take(offer(2, 6, 100)).await.is_ok());
    }
}
