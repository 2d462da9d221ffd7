//! A snapshot in transfer, piece by piece. The sender reads while it applies, flushes and compacts.
//! The receiver keeps its one slot for the transfer as the core's `SnapshotSlot` decides. Either
//! may stop, die or be cut off between two pieces.

use keelson_core::LastIncluded;
use keelson_core::MemberId;
use keelson_core::member::{
    Admission, ConsensusEvent, EVICTION_TIMEOUT_MS, Offer, PIECE_TIMEOUT_MS, SnapshotSlot,
    TransferNumber, offered,
};
use keelson_core::state::Capture;
use keelson_proto::peer::{RaftMessage, SnapshotChunk};
use keelson_store::internals::engine::generation::Fresh;

use super::event::Event;
use super::mutant::Mutant;
use super::nodes;
use super::world::World;

/// The interval at which an offer that waits for the slot is repeated.
const OFFER_AGAIN_MS: u64 = 50;

/// A snapshot in transfer.
pub(super) struct Transfer {
    /// The receiver's number for it, once it has the slot.
    number: TransferNumber,
    pub(super) from: MemberId,
    from_boot: u64,
    pub(super) to: MemberId,
    to_boot: u64,
    offer: RaftMessage,
    /// The part that is still to be read.
    capture: Capture,
    /// The chunks read so far.
    chunks: Vec<SnapshotChunk>,
    /// Everything has been read.
    is_whole: bool,
    /// When an offer that waits for the slot is given up.
    patience_until: Option<u64>,
}

/// The receiver's state.
#[derive(Default)]
pub(super) struct Receiving {
    place: SnapshotSlot,
    holder: Option<Holder>,
}

/// The transfer that has the slot.
#[derive(Clone, Copy)]
struct Holder {
    number: TransferNumber,
    from: MemberId,
    from_boot: u64,
    /// The number of pieces received.
    pieces: usize,
}

impl Receiving {
    fn leave(&mut self, number: TransferNumber) {
        self.place.leave(number);
        self.holder.take_if(|holder| holder.number == number);
    }
}

/// A snapshot that was received whole, and has not been decided on.
pub(super) struct Arrival {
    pub(super) mark: LastIncluded,
    pub(super) fresh: Fresh,
    pub(super) sender: Sender,
}

/// The sender that gets the result of a transfer.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    number: TransferNumber,
    from: MemberId,
    from_boot: u64,
}

impl World {
    pub(super) fn send_snapshot(
        &mut self,
        from: MemberId,
        to: MemberId,
        mut offer: RaftMessage,
        capture: Capture,
    ) {
        let (from_boot, to_boot) = (self.boot(from), self.boot(to));
        let capture = self.mistake_snapshot(from, &mut offer, capture);
        let transfer = Transfer {
            number: TransferNumber::default(),
            from,
            from_boot,
            to,
            to_boot,
            offer,
            capture,
            chunks: Vec::new(),
            is_whole: false,
            patience_until: None,
        };
        let delay = self.dice.between(0, 2);
        self.clock
            .after(delay, Event::SnapshotOffer(Box::new(transfer)));
        self.stand_still(from);
    }

    /// Whether both ends live, and the link is not cut.
    fn connected(&self, transfer: &Transfer) -> bool {
        self.lives(transfer.from, transfer.from_boot)
            && self.lives(transfer.to, transfer.to_boot)
            && !self.net.is_cut(transfer.from, transfer.to)
    }

    pub(super) fn offer_arrives(&mut self, mut transfer: Box<Transfer>) {
        let now = self.clock.now_ms();
        if !self.connected(&transfer) {
            return self.transfer_fails(&transfer);
        }
        let (from, from_boot, to) = (transfer.from, transfer.from_boot, transfer.to);
        match self.ask_for_place(to, Offer::of(&transfer.offer)) {
            Admission::Taken(number) => {
                transfer.number = number;
                let holder = Holder {
                    number,
                    from,
                    from_boot,
                    pieces: 0,
                };
                if let Some(life) = self.life(to) {
                    life.receiving.holder = Some(holder);
                }
                self.expect_piece(to, holder);
                self.clock.after(0, Event::SnapshotPiece(transfer));
                self.stand_still(to);
            }
            Admission::Evicting { number, first, .. } => {
                if first {
                    let delay = self.dice.between(0, 20);
                    let event = Event::Evicted(to, transfer.to_boot, number);
                    self.clock.after(delay, event);
                }
                let until = transfer
                    .patience_until
                    .get_or_insert(now + EVICTION_TIMEOUT_MS);
                match now < *until {
                    true => self
                        .clock
                        .after(OFFER_AGAIN_MS, Event::SnapshotOffer(transfer)),
                    false => self.transfer_fails(&transfer),
                }
            }
            Admission::Busy => self.transfer_fails(&transfer),
        }
    }

    fn ask_for_place(&mut self, to: MemberId, offer: Offer) -> Admission {
        let holder = self.life(to).and_then(|life| life.receiving.holder);
        let broken = |holder: &Holder| !self.lives(holder.from, holder.from_boot);
        let broken = holder.filter(broken);
        let kept = self.mutant == Some(Mutant::PlaceKept) && holder.is_some() && broken.is_none();
        let Some(life) = self.life(to).filter(|_| !kept) else {
            return Admission::Busy;
        };
        if let Some(holder) = broken {
            // The sender's connection has ended with it.
            life.receiving.leave(holder.number);
        }
        life.receiving.place.offer(offer)
    }

    /// The transfer ends if no piece comes until the timeout.
    fn expect_piece(&mut self, to: MemberId, holder: Holder) {
        let boot = self.boot(to);
        let overdue = Event::PieceOverdue(to, boot, holder.number, holder.pieces);
        self.clock.after(PIECE_TIMEOUT_MS, overdue);
    }

    pub(super) fn piece_overdue(&mut self, to: MemberId, number: TransferNumber, pieces: usize) {
        let kept = self.mutant == Some(Mutant::PlaceKept);
        let silent = |holder: &Holder| holder.number == number && holder.pieces == pieces;
        if let Some(life) = self.life(to)
            && !kept
            && life.receiving.holder.as_ref().is_some_and(silent)
        {
            life.receiving.leave(number);
        }
    }

    pub(super) fn evicted(&mut self, to: MemberId, number: TransferNumber) {
        if let Some(life) = self.life(to) {
            life.receiving.leave(number);
        }
    }

    /// The sender reads the next piece and sends it.
    pub(super) fn read_piece(&mut self, mut transfer: Box<Transfer>) -> Result<(), String> {
        if !self.lives(transfer.from, transfer.from_boot) {
            self.transfer_fails(&transfer);
            return Ok(());
        }
        let delay = match self.piece_of(&mut transfer.capture, transfer.chunks.len())? {
            Some(chunk) => {
                transfer.chunks.push(chunk);
                self.dice.between(0, self.swarm.piece_ms)
            }
            None => {
                transfer.is_whole = true;
                self.stand_still(transfer.to);
                let most = 20 + self.swarm.delay_ms * 5 + self.swarm.straggle_ms;
                self.dice.between(1, most)
            }
        };
        self.clock.after(delay, Event::PieceArrives(transfer));
        Ok(())
    }

    pub(super) fn piece_arrives(&mut self, mut transfer: Box<Transfer>) -> Result<(), String> {
        let (to, number) = (transfer.to, transfer.number);
        let lost = transfer.is_whole && self.dice.chance(self.swarm.drop);
        let connected = self.connected(&transfer) && !lost;
        let life = self.life(to);
        let holder = life.and_then(|life| life.receiving.holder.as_mut());
        let holder = holder.filter(|holder| holder.number == number && connected);
        let Some(holder) = holder else {
            self.transfer_fails(&transfer);
            return Ok(());
        };
        holder.pieces += 1;
        let holder = *holder;
        if transfer.is_whole {
            return self.snapshot_arrives(&mut transfer);
        }
        self.expect_piece(to, holder);
        self.clock.after(0, Event::SnapshotPiece(transfer));
        Ok(())
    }

    /// Everything was received: it is checked, and consensus decides on it.
    fn snapshot_arrives(&mut self, transfer: &mut Transfer) -> Result<(), String> {
        let to = transfer.to;
        let (built, garbled) = self.receive(&mut transfer.chunks);
        let built = offered(&transfer.offer).zip(built);
        let built = built.and_then(|(mark, engine)| {
            let roster = nodes::roster_of(&engine, mark)?;
            Some((mark, engine, roster))
        });
        self.check_garbled(to, built.is_some() && garbled)?;
        let member = self.members.get_mut(&to);
        let receiver = member.and_then(|member| Some((&mut member.storage, member.life.as_mut()?)));
        let (Some((mark, engine, roster)), Some((storage, life))) = (built, receiver) else {
            self.transfer_fails(transfer);
            return Ok(());
        };
        let fresh = life.generations.begin();
        let fresh = fresh.expect("the simulated disk fails only when it crashes");
        storage.keep(&fresh.dir, engine);
        let sender = Sender {
            number: transfer.number,
            from: transfer.from,
            from_boot: transfer.from_boot,
        };
        life.received.push(Arrival {
            mark,
            fresh,
            sender,
        });
        let (offer, roster) = (transfer.offer.clone(), Box::new(roster));
        self.event(to, ConsensusEvent::SnapshotStaged { offer, roster });
        Ok(())
    }

    /// Consensus has decided on the received snapshot: the slot is free, and the senders get the
    /// result.
    pub(super) fn transfers_decided(&mut self, to: MemberId, senders: &[Sender]) {
        for sender in senders {
            if let Some(life) = self.life(to) {
                life.receiving.leave(sender.number);
            }
            // A lost answer counts as a failure.
            let ok = !self.net.is_cut(to, sender.from);
            self.snapshot_fared(sender.from, sender.from_boot, to, ok);
        }
    }

    /// The receiver has died before it decided.
    pub(super) fn transfers_die(&mut self, to: MemberId, received: &[Arrival]) {
        for Arrival { sender, .. } in received {
            self.snapshot_fared(sender.from, sender.from_boot, to, false);
        }
    }

    fn transfer_fails(&mut self, transfer: &Transfer) {
        if self.lives(transfer.to, transfer.to_boot)
            && let Some(life) = self.life(transfer.to)
        {
            life.receiving.leave(transfer.number);
        }
        self.snapshot_fared(transfer.from, transfer.from_boot, transfer.to, false);
    }

    fn snapshot_fared(&mut self, from: MemberId, from_boot: u64, to: MemberId, ok: bool) {
        let delay = self.dice.between(1, 1 + self.swarm.delay_ms * 2);
        let event = Event::SnapshotSent(from, from_boot, to, ok);
        self.clock.after(delay, event);
    }

    /// A running member that is sending a snapshot to another one.
    pub(super) fn sender(&self) -> Option<MemberId> {
        let lives = self
            .members
            .values()
            .filter_map(|member| member.life.as_ref());
        let mut holders = lives.filter_map(|life| life.receiving.holder);
        let sending = holders.find(|holder| self.lives(holder.from, holder.from_boot));
        sending.map(|holder| holder.from)
    }
}
