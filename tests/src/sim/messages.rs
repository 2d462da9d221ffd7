//! Messages between members: sent through the network, received through the transport's filter.

use keelson_core::MemberId;
use keelson_core::member::{
    ConsensusEvent, forward_failed, forwarded_id, has_room, reject_forwards, weight,
};
use keelson_core::node::Input;
use keelson_proto::peer::PeerMessage;
use keelson_proto::peer::peer_message::Message as PeerMessageKind;

use super::event::Event;
use super::mutant::Mutant;
use super::net::Envelope;
use super::world::World;
use crate::invariant::Fact;

impl World {
    pub(super) fn send(
        &mut self,
        from: MemberId,
        sends: Vec<(MemberId, PeerMessage)>,
    ) -> Result<(), String> {
        let mut batches: Vec<(MemberId, Vec<PeerMessage>)> = Vec::new();
        for (to, message) in sends {
            if let Some(PeerMessageKind::Raft(raft)) = &message.message {
                let fact = Fact::Sent {
                    member: from,
                    message: raft,
                };
                self.fact(&fact)?;
            }
            if !self.is_linked(from, to) {
                if let Some(request) = forwarded_id(&message) {
                    self.event(from, forward_failed(request, false));
                }
                continue;
            }
            match batches.iter_mut().find(|(receiver, _)| *receiver == to) {
                Some((_, batch)) => batch.push(message),
                None => batches.push((to, vec![message])),
            }
        }
        for (to, batch) in batches {
            self.post(from, to, batch);
        }
        Ok(())
    }

    pub(super) fn post(&mut self, from: MemberId, to: MemberId, messages: Vec<PeerMessage>) {
        let envelope = Envelope {
            from,
            from_boot: self.boot(from),
            to,
            to_boot: self.boot(to),
            link: self.net.link(from, to),
            sequence: self.net.number(from, to),
            messages,
        };
        let now = self.clock.now_ms();
        let arrivals = match envelope.to_boot {
            0 => [None, None],
            _ => self
                .net
                .arrivals(from, to, now, &self.swarm, &mut self.dice),
        };
        let [first, again] = arrivals;
        if first.is_none() && self.dice.chance(0.2) {
            self.input(from, Input::Unreachable(to));
        }
        if let Some(at_ms) = again {
            let copy = Box::new(envelope.clone());
            self.clock.after(at_ms - now, Event::Deliver(copy));
        }
        if let Some(at_ms) = first {
            self.clock
                .after(at_ms - now, Event::Deliver(Box::new(envelope)));
        }
    }

    pub(super) fn deliver(&mut self, envelope: Envelope) -> Result<(), String> {
        let (from, to) = (envelope.from, envelope.to);
        if !self.lives(to, envelope.to_boot) || self.net.is_cut(from, to) {
            return Ok(());
        }
        if !self.belongs(&envelope)? || !self.net.admits(&envelope, self.swarm.reorder) {
            return Ok(());
        }
        self.note(to.0 << 48 ^ from.0 << 32 ^ envelope.sequence);
        let mut messages = envelope.messages;
        if self.mutant == Some(Mutant::ForwardTwice) {
            let is_forward = |message: &&PeerMessage| {
                matches!(message.message, Some(PeerMessageKind::Forward(_)))
            };
            let forwards: Vec<_> = messages.iter().filter(is_forward).cloned().collect();
            messages.extend(forwards);
        }
        for message in &mut messages {
            self.mistake_report(to, message);
        }
        let bytes_max = self.swarm.inbox_bytes_max();
        let bytes: usize = messages.iter().map(weight).sum();
        let Some(life) = self.life(to) else {
            return Ok(());
        };
        if has_room(life.inbox_bytes, bytes, bytes_max) {
            life.inbox_bytes += bytes;
            self.event(to, ConsensusEvent::Peer(from, messages));
        } else if let Some(rejected) = reject_forwards(from, &messages) {
            self.event(to, rejected);
        }
        Ok(())
    }
}
