//! Which part of the simulator an event goes to, and when a stopped process handles its events.

use keelson_core::MemberId;
use keelson_core::node::Input;

use super::event::Event;
use super::world::World;

/// The interval at which a snapshot's transfer is checked while one of its ends is stopped, in
/// milliseconds.
const HELD_MS: u64 = 1_000;

impl World {
    pub(super) fn handle(&mut self, event: Event) -> Result<(), String> {
        let Some(event) = self.hold_if_paused(event)? else {
            return Ok(());
        };
        match event {
            Event::Turn(id, boot) if self.lives(id, boot) => self.turn(id),
            Event::Synced(id, boot) if self.lives(id, boot) => self.synced(id),
            Event::LogPause(id, boot) if self.lives(id, boot) => self.log_pauses(id),
            Event::Publish(id, boot) if self.lives(id, boot) => {
                self.publish(id);
                Ok(())
            }
            Event::Apply(id, boot) if self.lives(id, boot) => self.apply(id),
            Event::ApplierDue(id, boot) if self.lives(id, boot) => self.applier_due(id),
            Event::Flushed(id, boot, index) if self.lives(id, boot) => self.flushed(id, index),
            Event::SnapshotSent(id, boot, to, ok) if self.lives(id, boot) => {
                self.input(id, Input::SnapshotSent { to, ok });
                Ok(())
            }
            Event::Notice(id, boot, about, down) if self.lives(id, boot) => {
                let input = match down {
                    true => Input::PeerDown(about),
                    false => Input::PeerUp(about),
                };
                self.input(id, input);
                Ok(())
            }
            Event::Deliver(envelope) => self.deliver(*envelope),
            Event::PeersAnswer(id, boot) if self.lives(id, boot) => {
                self.peers_answer(id);
                Ok(())
            }
            Event::SnapshotPiece(transfer) => self.read_piece(transfer),
            Event::AuditPiece(audit) => self.audit_piece(audit),
            Event::SnapshotOffer(transfer) => {
                self.offer_arrives(transfer);
                Ok(())
            }
            Event::PieceArrives(transfer) => self.piece_arrives(transfer),
            Event::PieceOverdue(id, boot, number, pieces) if self.lives(id, boot) => {
                self.piece_overdue(id, number, pieces);
                Ok(())
            }
            Event::Evicted(id, boot, number) if self.lives(id, boot) => {
                self.evicted(id, number);
                Ok(())
            }
            Event::Client(client) => self.client_acts(client),
            Event::GiveUp(operation) => {
                self.give_up(operation);
                Ok(())
            }
            Event::Forget(id) => {
                self.forget(id);
                Ok(())
            }
            Event::TreeGiveUp(operation) => {
                self.tree_give_up(operation);
                Ok(())
            }
            Event::Watch(number) => self.watcher_looks(number),
            Event::WatcherEnters(id, boot) if self.lives(id, boot) => {
                self.watcher_enters(id);
                Ok(())
            }
            Event::DeliverEvents(id, boot) if self.lives(id, boot) => {
                self.hub_delivers(id);
                Ok(())
            }
            Event::StreamClient(number) => self.stream_client_acts(number),
            Event::FanOut(id, boot) if self.lives(id, boot) => self.fan_out(id),
            Event::Expirer(id, boot) if self.lives(id, boot) => {
                self.expirer_due(id);
                Ok(())
            }
            Event::Lessor(id, boot) if self.lives(id, boot) => self.lessor_due(id),
            Event::LessorAgain(id, boot, number) if self.lives(id, boot) => {
                self.lessor_proposes(id, number)
            }
            Event::Renewal(id, boot, number, lease) if self.lives(id, boot) => {
                self.renewal_arrives(id, number, lease)
            }
            Event::Holder(number) => self.holder_acts(number),
            Event::HolderGivesUp(number, operation) => {
                self.holder_gives_up(number, operation);
                Ok(())
            }
            Event::Contender(number, operation) => {
                match operation {
                    Some(operation) => self.contender_gives_up(number, operation),
                    None => self.contender_acts(number),
                }
                Ok(())
            }
            Event::LockCall(id, boot, number, event) if self.lives(id, boot) => {
                self.call_event((id, boot), number, event)
            }
            Event::Observer(number) => self.observer_acts(number),
            Event::Admin(number) => {
                match number {
                    Some(number) => self.admin_goes_on(number),
                    None => self.admin_acts(),
                }
                Ok(())
            }
            Event::Fault => {
                self.fault();
                Ok(())
            }
            Event::Start(id) => self.start(id),
            Event::Retire(id) => {
                self.retire(id);
                Ok(())
            }
            Event::Replace => {
                self.replace();
                Ok(())
            }
            Event::Repair(id) => {
                self.repair(id);
                Ok(())
            }
            // For an incarnation that has ended.
            _ => Ok(()),
        }
    }

    /// A stopped process handles no event; the event is put off.
    fn hold_if_paused(&mut self, event: Event) -> Result<Option<Event>, String> {
        let id = match &event {
            Event::Turn(id, _)
            | Event::Synced(id, _)
            | Event::LogPause(id, _)
            | Event::PeersAnswer(id, _)
            | Event::Publish(id, _)
            | Event::Apply(id, _)
            | Event::ApplierDue(id, _)
            | Event::Flushed(id, _, _)
            | Event::SnapshotSent(id, _, _, _)
            | Event::Expirer(id, _)
            | Event::Lessor(id, _)
            | Event::LessorAgain(id, _, _)
            | Event::Renewal(id, _, _, _)
            | Event::LockCall(id, _, _, _)
            | Event::WatcherEnters(id, _)
            | Event::DeliverEvents(id, _)
            | Event::FanOut(id, _)
            | Event::Notice(id, _, _, _) => *id,
            Event::Deliver(envelope) => envelope.to,
            Event::SnapshotPiece(transfer) => transfer.from,
            Event::SnapshotOffer(transfer) | Event::PieceArrives(transfer) => transfer.to,
            Event::PieceOverdue(id, ..) | Event::Evicted(id, ..) => *id,
            _ => return Ok(Some(event)),
        };
        let paused = |id: &MemberId| self.members.get(id).map_or(0, |member| member.paused_until);
        let until = paused(&id);
        let wait = until.saturating_sub(self.clock.now_ms());
        if let Event::Deliver(envelope) = &event {
            self.note_under_way(id, &envelope.messages, wait != 0)?;
        }
        if wait == 0 {
            return Ok(Some(event));
        }
        // A turn of an earlier incarnation is dropped at its time: it does not replace a turn of
        // this one.
        match event {
            Event::Turn(id, boot) if self.lives(id, boot) => {
                if let Some(life) = self.life(id) {
                    life.turn_at = Some(until);
                }
            }
            Event::Expirer(id, boot) if self.lives(id, boot) => {
                if let Some(life) = self.life(id) {
                    life.expirer.due_at = Some(until);
                }
            }
            Event::Lessor(id, boot) if self.lives(id, boot) => {
                if let Some(life) = self.life(id) {
                    life.lessor.due_at = Some(until);
                }
            }
            _ => {}
        }
        // If one end dies meanwhile, the transfer soon fails at the other one.
        let of_snapshot = matches!(
            event,
            Event::SnapshotPiece(_) | Event::SnapshotOffer(_) | Event::PieceArrives(_)
        );
        let look_again = if of_snapshot { HELD_MS } else { u64::MAX };
        self.clock.after(wait.min(look_again), event);
        Ok(None)
    }
}
