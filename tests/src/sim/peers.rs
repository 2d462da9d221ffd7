//! The senders whose messages a member accepts, and the members it has links to, by the core's
//! `Peers`.

use keelson_core::MemberId;
use keelson_core::Millis;
use keelson_core::member::Membership;
use keelson_proto::etcdserverpb::Member;

use super::event::Event;
use super::net::Envelope;
use super::world::World;

/// A peer's URLs.
pub(super) type Urls = Vec<String>;

/// The peers of one process.
pub(super) type Peers = keelson_core::member::Peers<Urls>;

pub(super) fn urls_of(member: &Member) -> Urls {
    member.peer_ur_ls.clone()
}

impl World {
    /// Whether the receiver accepts messages of that sender. A sender that was removed ends; an
    /// unknown one may be new, so the receiver queries the other members.
    pub(super) fn belongs(&mut self, envelope: &Envelope) -> Result<bool, String> {
        let (from, to) = (envelope.from, envelope.to);
        let now = self.clock.now_ms();
        let Some(life) = self.life(to) else {
            return Ok(false);
        };
        match life.peers.of(from) {
            Membership::Member => return Ok(true),
            Membership::Removed => {
                let conf = self.invariants.ledger().memberships().next();
                if conf.is_some_and(|conf| {
                    [&conf.voters[..], &conf.learners]
                        .concat()
                        .contains(&from.0)
                }) {
                    return Err(format!("{to} takes {from}, a member, for removed"));
                }
                if self.lives(from, envelope.from_boot) {
                    self.clock.after(1, Event::Retire(from));
                }
            }
            Membership::Unknown => {
                if life.peers.should_request(Millis(now)) {
                    let boot = life.log.boot();
                    let delay = self.dice.between(1, 2 + 2 * self.swarm.delay_ms);
                    self.clock.after(delay, Event::PeersAnswer(to, boot));
                }
            }
        }
        Ok(false)
    }

    /// The reachable peers report the members as they have applied them.
    pub(super) fn peers_answer(&mut self, id: MemberId) {
        let members: Vec<_> = self
            .answers(id)
            .into_iter()
            .flat_map(|answer| answer.members)
            .collect();
        if let Some(life) = self.life(id) {
            life.peers.report(&members, urls_of);
        }
    }

    pub(super) fn is_linked(&self, from: MemberId, to: MemberId) -> bool {
        let life = self
            .members
            .get(&from)
            .and_then(|member| member.life.as_ref());
        life.is_some_and(|life| life.peers.address(to).is_some())
    }

    /// A member has applied a membership change: its links follow.
    pub(super) fn members_change(&mut self, id: MemberId) {
        let Some(life) = self.life(id) else {
            return;
        };
        let addresses = |peers: &Peers| -> Vec<(MemberId, Urls)> {
            peers.all().map(|(id, urls)| (id, urls.clone())).collect()
        };
        let before = addresses(&life.peers);
        let roster = life.applier.view().roster();
        life.peers.apply(&roster, urls_of);
        let after = addresses(&life.peers);
        for (peer, urls) in before {
            let moved = |(other, now): &(MemberId, Urls)| *other == peer && *now != urls;
            if after.iter().any(moved) {
                self.net.rebuild(peer, id);
            }
        }
    }
}
