//! A member's one place for a snapshot that it receives, as the real member has it: a silent sender keeps
//! it for a while only, and a later offer takes it at once.

use keelson_core::MemberId;
use keelson_proto::peer::RaftMessage;

use super::mutant::Mutant;
use super::nodes;
use super::world::World;

/// The real one's patience between two pieces, in milliseconds.
const PATIENCE_MS: u64 = 30_000;

/// Which transfer has a member's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    number: u64,
    from: MemberId,
    from_boot: u64,
    to_boot: u64,
    /// The sender's term and the snapshot's index.
    rank: (u64, u64),
    since_ms: u64,
}

impl World {
    /// Takes the receiver's place for an offer; gives the transfer's number, or nothing if it is taken.
    pub(super) fn take_place(
        &mut self,
        from: MemberId,
        to: MemberId,
        offer: &RaftMessage,
    ) -> Option<u64> {
        let now = self.clock.now_ms();
        let index = nodes::offered(offer).map_or(0, |mark| mark.index.0);
        let rank = (offer.term, index);
        let kept = self.mutant == Some(Mutant::PlaceKept);
        if let Some(held) = self.places.get(&to) {
            let connected = self.lives(held.from, held.from_boot) && self.lives(to, held.to_boot);
            let silent = held.since_ms + PATIENCE_MS <= now;
            let replaced = held.rank < rank || held.from == from && held.rank == rank;
            if connected && (kept || !silent && !replaced) {
                return None;
            }
        }
        self.transfers += 1;
        let held = Held {
            number: self.transfers,
            from,
            from_boot: self.boot(from),
            to_boot: self.boot(to),
            rank,
            since_ms: now,
        };
        self.places.insert(to, held);
        Some(held.number)
    }

    /// The transfer has ended. Whether it had the place until now.
    pub(super) fn leave_place(&mut self, to: MemberId, number: u64) -> bool {
        let mine = self
            .places
            .get(&to)
            .is_some_and(|held| held.number == number);
        if mine {
            self.places.remove(&to);
        }
        mine
    }

    /// A running member that is sending a snapshot to another one.
    pub(super) fn sender(&self) -> Option<MemberId> {
        let connected = |held: &&Held| self.lives(held.from, held.from_boot);
        let mut sending = self
            .places
            .iter()
            .filter(|(to, held)| connected(held) && self.lives(**to, held.to_boot));
        sending.next().map(|(_, held)| held.from)
    }
}
