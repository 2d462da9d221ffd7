//! The network between members: it loses, delays, duplicates and reorders messages, and its links
//! can be cut.
//!
//! It carries envelopes, as the product's transport does, and filters as the receiver does there: a
//! pair (incarnation, sequence) is accepted at most once, and envelopes in flight to a process that
//! has died never reach its successor.

use std::collections::{BTreeMap, BTreeSet};

use keelson_core::MemberId;
use keelson_proto::peer::PeerMessage;
use keelson_store::internals::peer::{Numbering, ReceivedNumbers};

use super::dice::Dice;
use super::swarm::Swarm;

/// One batch of messages in flight.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// The sender.
    pub(super) from: MemberId,
    /// The sender's incarnation.
    pub(super) from_boot: u64,
    /// The receiver.
    pub(super) to: MemberId,
    /// The receiver's incarnation when the stream was opened.
    pub(super) to_boot: u64,
    /// How often the sender's link had been rebuilt.
    pub(super) link: u64,
    /// Its number in the stream (from, from_boot, to).
    pub(super) sequence: u64,
    /// The messages.
    pub(super) messages: Vec<PeerMessage>,
}

/// All links.
#[derive(Default)]
pub(super) struct Net {
    cut: BTreeSet<(MemberId, MemberId)>,
    sequences: BTreeMap<(MemberId, MemberId), Numbering>,
    links: BTreeMap<(MemberId, MemberId), u64>,
    /// When the last batch of a link arrives.
    arrivals: BTreeMap<(MemberId, MemberId), u64>,
    gates: BTreeMap<(MemberId, u64, MemberId, u64, u64), Gate>,
    /// Whether duplicates pass the gate: a mutant.
    pub(super) gate_open: bool,
    /// Whether a rebuilt link numbers from the beginning while the gate does not: a mutant.
    pub(super) numbers_restart: bool,
}

/// The numbers that the receiver has accepted from one stream.
#[derive(Default)]
struct Gate {
    /// The product's own record.
    taken: ReceivedNumbers,
    highest: u64,
    /// With late delivery: the numbers below `highest` that were not received.
    missing: BTreeSet<u64>,
}

impl Net {
    /// Cuts the link in one direction.
    pub(super) fn cut(&mut self, from: MemberId, to: MemberId) {
        self.cut.insert((from, to));
    }

    /// Restores every link.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether the link from one to the other is cut.
    pub(super) fn is_cut(&self, from: MemberId, to: MemberId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// The next number of the stream.
    pub(super) fn number(&mut self, from: MemberId, to: MemberId) -> u64 {
        self.sequences.entry((from, to)).or_default().next()
    }

    /// How often the link was rebuilt.
    pub(super) fn link(&self, from: MemberId, to: MemberId) -> u64 {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// The link is rebuilt: the receiver's URLs have changed.
    pub(super) fn rebuild(&mut self, to: MemberId, from: MemberId) {
        match self.numbers_restart {
            true => drop(self.sequences.remove(&(from, to))),
            false => *self.links.entry((from, to)).or_default() += 1,
        }
    }

    /// The arrival time of each copy of a batch; none if it is lost. Unless the run reorders, a
    /// batch arrives after those before it, as in a stream.
    pub(super) fn arrivals(
        &mut self,
        from: MemberId,
        to: MemberId,
        now_ms: u64,
        swarm: &Swarm,
        dice: &mut Dice,
    ) -> [Option<u64>; 2] {
        if self.is_cut(from, to) || dice.chance(swarm.drop) {
            return [None, None];
        }
        let mut first = now_ms + delay_ms(swarm, dice);
        if !swarm.reorder {
            let last = self.arrivals.entry((from, to)).or_default();
            first = first.max(*last);
            *last = first;
        }
        let again = dice.chance(swarm.duplicate);
        [Some(first), again.then(|| first + delay_ms(swarm, dice))]
    }

    /// The transport's filter at the receiver.
    pub(super) fn admits(&mut self, envelope: &Envelope, late_ones_too: bool) -> bool {
        let stream = (
            envelope.from,
            envelope.from_boot,
            envelope.to,
            envelope.to_boot,
            envelope.link,
        );
        let gate = self.gates.entry(stream).or_default();
        let sequence = envelope.sequence;
        if gate.taken.take(sequence) {
            if late_ones_too {
                gate.missing.extend(gate.highest + 1..sequence);
            }
            gate.highest = sequence;
            return true;
        }
        (late_ones_too && gate.missing.remove(&sequence)) || self.gate_open
    }

    /// Drops the streams of an incarnation that has ended.
    pub(super) fn forget(&mut self, member: MemberId, boot: u64) {
        self.gates
            .retain(|(_, _, to, to_boot, _), _| (*to, *to_boot) != (member, boot));
    }
}

fn delay_ms(swarm: &Swarm, dice: &mut Dice) -> u64 {
    match dice.chance(swarm.straggle) {
        true => dice.between(0, swarm.straggle_ms),
        false => dice.between(0, swarm.delay_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(sequence: u64) -> Envelope {
        Envelope {
            from: MemberId(1),
            from_boot: 1,
            to: MemberId(2),
            to_boot: 1,
            link: 0,
            sequence,
            messages: Vec::new(),
        }
    }

    #[test]
    fn each_envelope_is_taken_once_and_late_ones_only_when_allowed() {
        let mut net = Net::default();
        let mut admitted = |sequence, late| net.admits(&envelope(sequence), late);
        assert!(admitted(1, true));
        assert!(admitted(4, true));
        assert!(admitted(2, true));
        assert!(!admitted(2, true));
        assert!(!admitted(3, false));
        assert!(admitted(3, true));
        assert!(!admitted(4, true));
    }
}
