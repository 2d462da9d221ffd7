//! Snapshots: sent beside the messages, built into a fresh engine, installed when consensus agrees.

use std::sync::Arc;

use keelson_core::node::Input;
use keelson_core::{Index, MemberId, SnapshotMark};
use keelson_proto::peer::{RaftMessage, SnapshotChunk};

use super::mutant::Mutant;
use super::nodes;
use super::world::{Event, World};
use crate::invariant::Fact;

/// A snapshot on its way.
pub(super) struct Transfer {
    from: MemberId,
    from_boot: u64,
    pub(super) to: MemberId,
    to_boot: u64,
    offer: RaftMessage,
    chunks: Arc<Vec<SnapshotChunk>>,
}

impl World {
    pub(super) fn send_snapshot(&mut self, from: MemberId, to: MemberId, offer: RaftMessage) {
        let chunks = self.life(from).and_then(|life| life.snapshot_for(&offer));
        let (from_boot, to_boot) = (self.boot(from), self.boot(to));
        let Some(chunks) = chunks.filter(|_| to_boot != 0) else {
            return self.snapshot_fared(from, from_boot, to, false);
        };
        let delay = self
            .dice
            .between(1, 20 + self.swarm.delay_ms * 5 + self.swarm.straggle_ms);
        let transfer = Transfer {
            from,
            from_boot,
            to,
            to_boot,
            offer,
            chunks,
        };
        self.clock.after(delay, Event::Snapshot(Box::new(transfer)));
    }

    pub(super) fn snapshot_fared(
        &mut self,
        from: MemberId,
        from_boot: u64,
        to: MemberId,
        ok: bool,
    ) {
        let delay = self.dice.between(1, 1 + self.swarm.delay_ms * 2);
        let event = Event::SnapshotSent(from, from_boot, to, ok);
        self.clock.after(delay, event);
    }

    pub(super) fn snapshot_arrives(&mut self, transfer: Transfer) {
        let Transfer { from, to, .. } = transfer;
        let broken = !self.lives(to, transfer.to_boot)
            || !self.lives(from, transfer.from_boot)
            || self.net.is_cut(from, to)
            || self.dice.chance(self.swarm.drop);
        let mark = nodes::offered(&transfer.offer).filter(|_| !broken);
        let built = mark.zip(nodes::build(&transfer.chunks, self.mutant));
        let built = built.and_then(|(mark, engine)| {
            let roster = nodes::roster_of(&engine)?;
            Some((mark, engine, roster))
        });
        let arrived = built.is_some();
        if let (Some((mark, engine, roster)), Some(life)) = (built, self.life(to)) {
            // A few may wait for consensus to decide; the oldest are surely decided on.
            if 4 <= life.received.len() {
                life.received.remove(0);
            }
            life.received.push((mark, engine));
            let (offer, roster) = (transfer.offer, Box::new(roster));
            self.input(to, Input::SnapshotReceived { offer, roster });
        }
        // An answer that gets lost reads as a failure.
        let ok = arrived && !self.net.is_cut(to, from);
        self.snapshot_fared(from, transfer.from_boot, to, ok);
    }

    pub(super) fn install(&mut self, id: MemberId, mark: SnapshotMark) -> Result<(), String> {
        self.tally.snapshots += 1;
        self.note(id.0 << 40 ^ mark.index.0);
        let mutant = self.mutant;
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        let Some(life) = member.life.as_mut() else {
            return Ok(());
        };
        if mutant == Some(Mutant::SnapshotIgnored) && life.machine.is_some() {
            life.apply_queue.clear();
            return Ok(());
        }
        life.switch_engine(mark, &mut member.storage);
        let machine = life.machine.as_ref().expect("just opened");
        let view = machine.view();
        let fact = Fact::Applied {
            member: id,
            index: Index(machine.applied().index),
            revision: view.revision(),
            hash: Some(view.hash_kv(0).map_err(|error| error.to_string())?.hash),
            tree: Some(view.tree_digest()),
        };
        if machine.applied().index != mark.index.0 {
            return Err(format!(
                "{id} installed {:?} for {mark:?}",
                machine.applied()
            ));
        }
        self.fact(&fact)?;
        self.check_tree(id, self.clock_ns(id))
    }
}
