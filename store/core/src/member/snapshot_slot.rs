//! The slot for one incoming snapshot.
//!
//! A silent sender must not occupy it: after [`PIECE_TIMEOUT_MS`] without a piece the transfer
//! ends. An offer of a later term or index evicts the transfer at once.

use keelson_proto::peer::RaftMessage;

use crate::{Index, LastIncluded, MemberId, Term};

/// The timeout for the next piece of a transfer, in milliseconds. A piece is about a mebibyte.
pub const PIECE_TIMEOUT_MS: u64 = 30_000;

/// How long an offer waits for an evicted transfer to finish the piece that it is writing, in
/// milliseconds.
pub const EVICTION_TIMEOUT_MS: u64 = 10_000;

/// An offered snapshot, for the decision between two offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The sender.
    pub from: MemberId,
    /// The sender's term.
    pub term: u64,
    /// The snapshot's index.
    pub index: u64,
}

impl Offer {
    /// The offer in a message; index 0 if there is none.
    pub fn of(message: &RaftMessage) -> Offer {
        Offer {
            from: MemberId(message.from),
            term: message.term,
            index: offered(message).map_or(0, |last| last.index.0),
        }
    }

    /// Whether this offer evicts `held`. A sender repeats an offer only after its earlier attempt
    /// has ended.
    fn replaces(&self, held: &Offer) -> bool {
        let later = (held.term, held.index) < (self.term, self.index);
        later || self.from == held.from && held.term <= self.term && held.index <= self.index
    }
}

/// The position of the snapshot that a message offers, if there is one.
pub fn offered(message: &RaftMessage) -> Option<LastIncluded> {
    let meta = message.snapshot.as_ref()?;
    Some(LastIncluded {
        index: Index(meta.index),
        term: Term(meta.term),
    })
}

/// The number of a transfer, unique within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransferNumber(u64);

/// The decision about an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The transfer of that number occupies the slot until [`SnapshotSlot::leave`].
    Taken(TransferNumber),
    /// The current transfer must end. The offer is repeated when the slot is free, and given up
    /// after [`EVICTION_TIMEOUT_MS`].
    Evicting {
        /// The current transfer.
        number: TransferNumber,
        /// The offer that it receives.
        held: Offer,
        /// Whether this is its first eviction.
        first: bool,
    },
    /// Another snapshot is being received.
    Busy,
}

#[derive(Debug)]
struct Held {
    number: TransferNumber,
    offer: Offer,
    evicted: bool,
}

/// The slot, and the transfer that occupies it.
#[derive(Debug, Default)]
pub struct SnapshotSlot {
    held: Option<Held>,
    transfers: u64,
}

impl SnapshotSlot {
    /// Occupies the slot for an offer, or evicts the current transfer if the offer replaces it.
    pub fn offer(&mut self, offer: Offer) -> Admission {
        match &mut self.held {
            None => {
                self.transfers += 1;
                let number = TransferNumber(self.transfers);
                self.held = Some(Held {
                    number,
                    offer,
                    evicted: false,
                });
                Admission::Taken(number)
            }
            Some(held) if offer.replaces(&held.offer) => Admission::Evicting {
                number: held.number,
                held: held.offer,
                first: !std::mem::replace(&mut held.evicted, true),
            },
            Some(_) => Admission::Busy,
        }
    }

    /// Whether the transfer has to end.
    pub fn is_evicted(&self, number: TransferNumber) -> bool {
        let held = self.held.as_ref();
        held.is_none_or(|held| held.number != number || held.evicted)
    }

    /// Frees the slot: the transfer has succeeded or failed.
    pub fn leave(&mut self, number: TransferNumber) {
        self.held.take_if(|held| held.number == number);
    }
}

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

    #[test]
    fn a_later_offer_takes_the_place_of_a_silent_sender() {
        for (later, expected) in [
            (offer(2, 6, 90), true),
            (offer(2, 5, 101), true),
            (offer(1, 5, 100), true),
            (offer(2, 5, 100), false),
            (offer(2, 4, 200), false),
            (offer(1, 5, 99), false),
        ] {
            let mut place = SnapshotSlot::default();
            let Admission::Taken(number) = place.offer(offer(1, 5, 100)) else {
                panic!("it is free");
            };
            assert!(!place.is_evicted(number));
            let answer = place.offer(later);
            let evicts = matches!(answer, Admission::Evicting { first: true, .. });
            assert_eq!(evicts, expected, "{later:?}");
            assert_eq!(place.is_evicted(number), expected);
            if !expected {
                assert_eq!(answer, Admission::Busy);
                continue;
            }
            // The slot stays occupied until the evicted transfer has ended.
            let again = place.offer(later);
            assert!(matches!(again, Admission::Evicting { first: false, .. }));
            place.leave(number);
            assert!(matches!(place.offer(later), Admission::Taken(next) if next != number));
        }
    }

    /// The end of an evicted transfer must not end the one that came after it.
    #[test]
    fn a_transfer_frees_only_its_own_place() {
        let mut place = SnapshotSlot::default();
        let Admission::Taken(first) = place.offer(offer(1, 5, 100)) else {
            panic!("it is free");
        };
        place.leave(first);
        let Admission::Taken(second) = place.offer(offer(2, 6, 100)) else {
            panic!("it is free");
        };
        place.leave(first);
        assert!(!place.is_evicted(second));
        assert!(place.is_evicted(first));
    }
}
