//! The one place for a snapshot that is being received.
//!
//! A sender that falls silent must not keep it: the peer port gives up on one that sends no piece for a
//! while, and the offer of a later term or index takes the place at once.

use std::sync::Arc;
use std::time::Duration;

use keelson_core::MemberId;
use keelson_proto::peer::RaftMessage;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tonic::Status;

use crate::peer::Evicted;

/// For a holder that was sent away to finish the piece that it is writing.
const EVICTION_PATIENCE: Duration = Duration::from_secs(10);

/// Shared by the calls that bring snapshots.
#[derive(Default)]
pub(crate) struct Place {
    held: Mutex<Option<Held>>,
    freed: Notify,
}

/// What is being received.
struct Held {
    offer: Offer,
    /// Sends the holder away; none if that was done.
    evict: Option<oneshot::Sender<()>>,
}

/// What decides between two offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) from: MemberId,
    /// The sender's term.
    pub(crate) term: u64,
    /// The snapshot's index.
    pub(crate) index: u64,
}

impl Offer {
    /// What the message offers; index 0 if it offers nothing.
    pub(crate) fn of(message: &RaftMessage) -> Offer {
        Offer {
            from: MemberId(message.from),
            term: message.term,
            index: message.snapshot.as_ref().map_or(0, |meta| meta.index),
        }
    }

    /// A sender offers again only when its earlier attempt is over for it.
    fn replaces(&self, held: &Offer) -> bool {
        let later = (held.term, held.index) < (self.term, self.index);
        later || self.from == held.from && held.term <= self.term && held.index <= self.index
    }
}

/// Held as long as a snapshot is being received. Dropping it frees the place.
pub(crate) struct Slot(Arc<Place>);

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.held.lock() = None;
        self.0.freed.notify_waiters();
    }
}

impl Place {
    /// Takes the place, from a holder whose offer this one replaces if need be. What is returned beside
    /// the slot says when the holder has to leave in turn.
    ///
    /// # Errors
    /// `ResourceExhausted` while another snapshot is being received.
    pub(crate) async fn take(self: &Arc<Place>, offer: Offer) -> Result<(Slot, Evicted), Status> {
        let busy = || Status::resource_exhausted("another snapshot is being received");
        let deadline = tokio::time::Instant::now() + EVICTION_PATIENCE;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(taken) = self.take_if_free(offer).map_err(|Busy| busy())? {
                return Ok(taken);
            }
            let waited = tokio::time::timeout_at(deadline, freed).await;
            waited.map_err(|_| busy())?;
        }
    }

    /// Takes the place, or sends its holder away.
    fn take_if_free(self: &Arc<Place>, offer: Offer) -> Result<Option<(Slot, Evicted)>, Busy> {
        let mut held = self.held.lock();
        match held.as_mut() {
            None => {
                let (evict, evicted) = oneshot::channel();
                *held = Some(Held {
                    offer,
                    evict: Some(evict),
                });
                Ok(Some((Slot(Arc::clone(self)), evicted)))
            }
            Some(holder) if offer.replaces(&holder.offer) => {
                if let Some(evict) = holder.evict.take() {
                    tracing::info!(?offer, held = ?holder.offer, "a snapshot gives way to another");
                    let _ = evict.send(());
                }
                Ok(None)
            }
            Some(_) => Err(Busy),
        }
    }
}

struct Busy;

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(from: u64, term: u64, index: u64) -> Offer {
        Offer {
            from: MemberId(from),
            term,
            index,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_offer_takes_the_place_of_a_silent_sender() {
        for (later, expected) in [
            (offer(2, 6, 90), true),
            (offer(2, 5, 101), true),
            (offer(1, 5, 100), true),
            (offer(2, 5, 100), false),
            (offer(2, 4, 200), false),
            (offer(1, 5, 99), false),
        ] {
            let place = Arc::new(Place::default());
            let (slot, evicted) = place.take(offer(1, 5, 100)).await.expect("it is free");
            let holder = async {
                // Only one that is sent away leaves; dropping the sender of the signal is no signal.
                if evicted.await.is_ok() {
                    drop(slot);
                }
            };
            let (taken, ()) = tokio::join!(place.take(later), async {
                let _ = tokio::time::timeout(EVICTION_PATIENCE, holder).await;
            });
            assert_eq!(taken.is_ok(), expected, "{later:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_leave_is_not_waited_for_without_end() {
        let place = Arc::new(Place::default());
        let held = place.take(offer(1, 5, 100)).await.expect("it is free");
        let refused = place.take(offer(2, 6, 100)).await;
        assert!(refused.is_err());
        drop(held);
        assert!(place.take(offer(2, 6, 100)).await.is_ok());
    }
}
