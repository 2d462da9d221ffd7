//! Load: members with small memory bounds, while clients go on and a process stops, or an engine
//! hangs, for a long time.

use keelson_core::member::ReadTicket;
use keelson_core::node::{Input, NodeConfig};
use keelson_core::{MemberId, ProposalId};
use keelson_proto::peer::PeerMessage;
use keelson_proto::peer::peer_message::Message;

use super::dice::Dice;
use super::event::Waiter;
use super::nodes::Member;
use super::reads::ReadOrigin;
use super::swarm::Swarm;
use super::world::World;
use crate::invariant::Fact;

/// A stop that ends this soon after the faults is no burden for a healed cluster, in milliseconds.
const PAUSE_MS: u64 = 5_000;

/// A member's memory bounds in a run about load, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Appends in flight to one follower.
    in_flight: usize,
    /// The log in memory while the engine lags.
    log: usize,
    /// Entries that wait for the log's disk.
    unpersisted: usize,
    /// Rows that the state machine holds and the engine lacks.
    pub(super) backlog: u64,
    /// Messages of peers that wait for consensus.
    inbox: usize,
}

impl Bounds {
    /// Bounds so small that a few seconds of load exceed them.
    pub(super) const TIGHT: Bounds = Bounds {
        in_flight: 4 << 10,
        log: 32 << 10,
        unpersisted: 16 << 10,
        backlog: 32 << 10,
        inbox: 8 << 10,
    };

    pub(super) fn configure(self, config: &mut NodeConfig) {
        config.in_flight_bytes_max = self.in_flight;
        config.log_bytes_max = self.log;
        config.unpersisted_bytes_max = self.unpersisted;
    }
}

impl Swarm {
    /// The bound on messages of peers that wait for consensus; the product's own bound is never
    /// reached.
    pub(super) fn inbox_bytes_max(&self) -> usize {
        self.bounds.map_or(usize::MAX, |bounds| bounds.inbox)
    }

    /// Decides whether the run is about load, from dice of its own, so that other draws do not
    /// depend on it.
    pub(super) fn draw_load(&mut self, dice: &mut Dice) {
        if dice.chance(0.2) {
            self.load();
        }
    }

    /// Makes the run one about load.
    pub(super) fn load(&mut self) {
        self.bounds = Some(Bounds::TIGHT);
        (self.clients, self.think_ms) = (self.clients.max(8), 50);
        (self.catch_up_entries, self.catch_up_bytes) = (20, 2_000);
        (self.append_bytes_max, self.uncommitted_bytes_max) = (500, 4_000);
    }

    /// The largest size of the log in memory: the appends of one turn come on top of the bound. An
    /// entry weighs up to four times as much as its command.
    fn log_most(&self, bounds: Bounds) -> usize {
        let turn = self.uncommitted_bytes_max + self.append_bytes_max;
        bounds.log + 4 * (usize::try_from(turn).unwrap_or(usize::MAX) + bounds.in_flight)
    }

    /// The largest size in flight to a member that does not read, entries and requests.
    fn under_way_most(&self, bounds: Bounds, senders: usize) -> usize {
        let proposals = usize::try_from(self.uncommitted_bytes_max).unwrap_or(usize::MAX);
        senders * 2 * (bounds.in_flight + proposals) + (4 << 10)
    }
}

impl World {
    /// Stops a process for so long that the others drop the entries it needs.
    pub(super) fn stop_for_long(&mut self) {
        let running = self.running();
        let Some(id) = self.dice.pick(&running) else {
            return;
        };
        let until = self.clock.now_ms() + self.dice.between(5_000, 20_000);
        self.stop_until(id, until);
    }

    /// Stops a process until `until`. A stop does not shorten another: the process's events are put
    /// off to the end of the later one.
    pub(super) fn stop_until(&mut self, id: MemberId, until: u64) {
        self.note_silence(id);
        self.plan_replacement();
        let now = self.clock.now_ms();
        if let Some(member) = self.members.get_mut(&id) {
            if member.paused_until <= now {
                member.under_way_bytes = 0;
            }
            member.paused_until = member.paused_until.max(until);
        }
    }

    /// A member's engine finishes no write for some seconds.
    pub(super) fn hang_engine(&mut self) {
        let running = self.running();
        let until = self.clock.now_ms() + self.dice.between(2_000, 10_000);
        if let Some(id) = self.dice.pick(&running)
            && let Some(member) = self.members.get_mut(&id)
        {
            member.engine_hangs_until = until;
        }
    }

    /// Waits for the end of stops that last longer than the healed cluster's time.
    pub(super) fn outlast_stops(&mut self) -> Result<(), String> {
        let ends = |member: &Member| {
            let hangs = member.engine_hangs_until.max(member.disk_stalls_until);
            member.paused_until.max(hangs)
        };
        let last = self.members.values().map(ends).max().unwrap_or(0);
        let now = self.clock.now_ms();
        match self.swarm.bounds.is_some() || now + PAUSE_MS < last {
            true => self.run_until(last.max(now)),
            false => Ok(()),
        }
    }

    /// The least time of a write to the member's engine.
    pub(super) fn engine_hangs_ms(&self, id: MemberId) -> u64 {
        let until = self
            .members
            .get(&id)
            .map(|member| member.engine_hangs_until);
        until.unwrap_or(0).saturating_sub(self.clock.now_ms())
    }

    /// A client leaves. Its request, if it is one for the log, makes room for others, and its read
    /// is no longer waited for.
    pub(super) fn leave(&mut self, client: Waiter) {
        let request = self
            .waiting
            .iter()
            .find(|(_, waiter)| **waiter == client)
            .map(|(request, _)| *request);
        if let Some(id) = request {
            self.forget(id);
        }
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            let Some(life) = self.life(id) else {
                continue;
            };
            let of_client = |(asker, _): &(ReadOrigin, ReadTicket)| asker.is(client);
            let Some(found) = life.readers.iter().position(of_client) else {
                continue;
            };
            let (_, place) = life.readers.swap_remove(found);
            if life.reads.leave(place) {
                // Its answer may be due in this same turn, and then has no client.
                let context = place.context;
                self.input(id, Input::ReadCancelled { context });
            }
        }
    }

    /// The member drops the request's slot.
    pub(super) fn forget(&mut self, id: ProposalId) {
        if self.lives(id.member, id.incarnation) {
            self.input(id.member, Input::ProposalCancelled { id });
        }
    }

    /// Messages have reached a process: a stopped one leaves them waiting, a running one takes all
    /// that wait.
    pub(super) fn note_under_way(
        &mut self,
        to: MemberId,
        messages: &[PeerMessage],
        stopped: bool,
    ) -> Result<(), String> {
        let Some(bounds) = self.swarm.bounds else {
            return Ok(());
        };
        let most = self.swarm.under_way_most(bounds, self.members.len());
        let Some(member) = self.members.get_mut(&to) else {
            return Ok(());
        };
        member.under_way_bytes = match stopped {
            true => member.under_way_bytes + messages.iter().map(weight).sum::<usize>(),
            false => 0,
        };
        let held = member.under_way_bytes;
        self.fact(&Fact::Held {
            member: to,
            what: "messages to a stopped process",
            bytes: held as u64,
            bytes_max: most as u64,
        })
    }

    /// Reports to the invariants how much the member holds.
    pub(super) fn weigh(&mut self, id: MemberId) -> Result<(), String> {
        let Some(bounds) = self.swarm.bounds else {
            return Ok(());
        };
        let most = self.swarm.log_most(bounds);
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let log_bytes = life.consensus.status().log_bytes;
        self.fact(&Fact::Held {
            member: id,
            what: "its log in memory",
            bytes: log_bytes as u64,
            bytes_max: most as u64,
        })
    }
}

/// The payload of a message, in bytes.
fn weight(message: &PeerMessage) -> usize {
    match &message.message {
        Some(Message::Raft(raft)) => raft.entries.iter().map(|entry| entry.data.len()).sum(),
        Some(Message::Forward(forward)) => forward.command.len(),
        _ => 0,
    }
}
