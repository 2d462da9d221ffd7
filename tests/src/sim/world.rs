//! The world: all simulated state, the loop over the planned events, and a member's turn.
//!
//! `nodes` defines a member, `dispatch` which part handles an event. A turn's effects are carried
//! out in the order of their fields, as by the product's driver.

use std::collections::BTreeMap;

use keelson_core::member::{ConsensusEffects, ConsensusEvent, ExpirerEvent, LessorEvent, LogWork};
use keelson_core::node::Input;
use keelson_core::{MemberId, Millis, ProposalId};
use keelson_proto::internal::member_change;

use super::auth::AuthWorld;
use super::clients::Clients;
use super::clock::Clock;
use super::corruption::Corruption;
use super::dice::Dice;
use super::event::{Event, Waiter};
use super::lease::LeaseWorld;
use super::lock::LockWorld;
use super::mutant::Mutant;
use super::net::Net;
use super::nodes::{self, Life, Member};
use super::swarm::Swarm;
use super::tally::Tally;
use super::tree::TreeWorld;
use super::watch::WatchWorld;
use crate::history::{History, Outcome};
use crate::invariant::{Fact, Invariants};

/// A simulated cluster.
pub(super) struct World {
    pub(super) clock: Clock<Event>,
    pub(super) dice: Dice,
    pub(super) swarm: Swarm,
    pub(super) seed: u64,
    pub(super) mutant: Option<Mutant>,
    pub(super) net: Net,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) invariants: Invariants,
    pub(super) history: History,
    pub(super) clients: Clients,
    pub(super) tree: TreeWorld,
    pub(super) leases: LeaseWorld,
    pub(super) locks: LockWorld,
    pub(super) auth: AuthWorld,
    /// Requests whose answer is waited for.
    pub(super) waiting: BTreeMap<ProposalId, Waiter>,
    pub(super) watches: WatchWorld,
    pub(super) corruption: Corruption,
    pub(super) tally: Tally,
    /// The second phase has begun.
    pub(super) calm: bool,
    /// Members to be replaced, each with the change that adds its replacement.
    pub(super) repairs: BTreeMap<MemberId, Option<member_change::Op>>,
    /// All disks were damaged at once.
    pub(super) all_damaged: bool,
    /// So many members refuse to go on that there is no quorum any more.
    pub(super) dead: bool,
    pub(super) next_member: u64,
    /// Prints every fact.
    pub(super) trace: bool,
}

impl World {
    pub(super) fn new(seed: u64, swarm: Swarm, mutant: Option<Mutant>, dice: Dice) -> World {
        let ids: Vec<MemberId> = (1..=swarm.members).map(MemberId).collect();
        let genesis = nodes::genesis(&ids);
        let mut world = World {
            clock: Clock::new(),
            dice,
            seed,
            mutant,
            net: Net::default(),
            invariants: Invariants::new(&genesis.mark),
            history: History::default(),
            clients: Clients::new(&swarm),
            tree: TreeWorld::new(&swarm),
            leases: LeaseWorld::new(&swarm),
            locks: LockWorld::new(&swarm),
            auth: AuthWorld::new(),
            waiting: BTreeMap::new(),
            watches: WatchWorld::new(&swarm),
            corruption: Corruption::new(&swarm),
            tally: Tally::default(),
            calm: false,
            repairs: BTreeMap::new(),
            all_damaged: false,
            dead: false,
            next_member: 100,
            trace: false,
            members: BTreeMap::new(),
            swarm,
        };
        world.net.numbers_restart = mutant == Some(Mutant::NumbersRestart);
        world.net.gate_open = mutant == Some(Mutant::DuplicatesPass);
        for id in ids {
            let member = Member::new(id, Some(genesis.clone()));
            world.members.insert(id, member);
            world.clock.after(0, Event::Start(id));
        }
        for client in 0..world.swarm.clients {
            let delay = world.dice.between(0, 2_000);
            world.clock.after(delay, Event::Client(client));
        }
        for holder in 0..world.swarm.leases.clients {
            let number = usize::try_from(holder).expect("a few");
            world.clock.after(1_000, Event::Holder(number));
        }
        for contender in 0..world.locks.len() {
            world.clock.after(1_500, Event::Contender(contender, None));
        }
        for observer in 0..world.locks.observers() {
            world.clock.after(1_500, Event::Observer(observer));
        }
        for watcher in 0..world.swarm.watchers {
            let number = usize::try_from(watcher).expect("a few");
            world.clock.after(1_000, Event::Watch(number));
        }
        for number in 0..world.swarm.streams.clients {
            let number = usize::try_from(number).expect("a few");
            world.clock.after(1_000, Event::StreamClient(number));
        }
        if world.swarm.users != 0 {
            world.clock.after(1_500, Event::Admin(None));
        }
        let (least, _) = world.swarm.fault_every_ms;
        world.clock.after(1_000 + least, Event::Fault);
        world
    }

    /// Runs until that time.
    pub(super) fn run_until(&mut self, until_ms: u64) -> Result<(), String> {
        while !self.dead
            && let Some(event) = self.clock.next(until_ms)
        {
            self.tally.events += 1;
            let now = self.clock.now_ms();
            if self.clock.stands_still() {
                return Err(format!(
                    "the events at {now} ms cause each other without end"
                ));
            }
            let handled = self.handle(event);
            let checked = handled.and_then(|()| match self.auth.violation.take() {
                Some(problem) => Err(problem),
                None => Ok(()),
            });
            checked.map_err(|problem| format!("at {now} ms: {problem}"))?;
        }
        Ok(())
    }

    /// Checks the invariants with a fact, and prints it in a trace.
    pub(super) fn fact(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        if self.trace {
            println!("{:>8} {fact:?}", self.clock.now_ms());
        }
        self.invariants.observe(fact)
    }

    pub(super) fn life(&mut self, id: MemberId) -> Option<&mut Life> {
        self.members.get_mut(&id)?.life.as_mut()
    }

    pub(super) fn lives(&self, id: MemberId, boot: u64) -> bool {
        let life = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        life.is_some_and(|life| life.log.boot() == boot)
    }

    pub(super) fn boot(&self, id: MemberId) -> u64 {
        let life = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        life.map_or(0, |life| life.log.boot())
    }

    pub(super) fn note(&mut self, word: u64) {
        let mixed = (self.tally.trace ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.tally.trace = mixed ^ (mixed >> 29);
    }

    /// Queues an input for a member's next turn.
    pub(super) fn input(&mut self, id: MemberId, input: Input) {
        self.event(id, ConsensusEvent::Input(input));
    }

    /// Queues an event for a member's next turn.
    pub(super) fn event(&mut self, id: MemberId, event: ConsensusEvent) {
        if let Some(life) = self.life(id) {
            life.inbox.push(event);
            let now = self.clock.now_ms();
            self.plan_turn(id, now);
        }
    }

    pub(super) fn plan_turn(&mut self, id: MemberId, at_ms: u64) {
        let now = self.clock.now_ms();
        let at_ms = at_ms.max(now);
        let Some(life) = self.life(id) else {
            return;
        };
        if life.turn_at.is_none_or(|planned| at_ms < planned) {
            life.turn_at = Some(at_ms);
            let boot = life.log.boot();
            self.clock.after(at_ms - now, Event::Turn(id, boot));
        }
    }

    /// One turn of a member.
    pub(super) fn turn(&mut self, id: MemberId) -> Result<(), String> {
        let (now, trace) = (self.clock.now_ms(), self.trace);
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        if life.turn_at != Some(now) {
            return Ok(());
        }
        life.turn_at = None;
        let mut events = std::mem::take(&mut life.inbox);
        life.inbox_bytes = 0;
        events.retain(|event| match event {
            ConsensusEvent::Input(Input::Read { context }) => self.close_reads(id, *context),
            _ => true,
        });
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        if trace {
            println!("{now:>8} events of {id}: {events:?}");
        }
        let effects = life.consensus.handle(Millis(now), events);
        let wake_at = effects.wake_at.0;
        if self.trace {
            println!("{now:>8} turn of {id}: {effects:?}");
        }
        self.carry_out(id, effects)?;
        self.plan_turn(id, wake_at);
        self.report_status(id)
    }

    /// Carries out a turn's effects, in the order of their fields. The exception is the soft state:
    /// the invariants get it first, since they check the other effects by it.
    fn carry_out(&mut self, id: MemberId, effects: ConsensusEffects) -> Result<(), String> {
        if let Some(soft_state) = effects.soft_state {
            self.note(id.0 << 32 | soft_state.term.0 << 2 | soft_state.role as u64);
            self.tally.elections += u64::from(soft_state.role == keelson_core::node::Role::Leader);
            self.fact(&Fact::Stood {
                member: id,
                soft_state,
            })?;
            self.note_role(id, soft_state.role);
            self.expirer_takes(id, ExpirerEvent::Woken);
            self.lessor_takes(id, LessorEvent::Woken)?;
        }
        self.send(id, effects.send)?;
        let received = self.life(id).map(|life| &life.received);
        let senders = received.into_iter().flatten().map(|arrival| arrival.sender);
        let senders: Vec<_> = senders.collect();
        if let Some(mark) = effects.install {
            self.install(id, mark)?;
        }
        if let Some(life) = self.life(id) {
            life.discard_received();
        }
        self.transfers_decided(id, &senders);
        if let Some(append) = effects.append {
            self.check_adds(id, &append)?;
            self.append(id, append)?;
        }
        if let Some(mark) = effects.truncate {
            self.queue_log(id, LogWork::Truncate(mark));
        }
        for work in effects.work {
            self.hand_out(id, work)?;
        }
        for (proposal, refusal) in effects.refused {
            self.refused(id, &proposal, &format!("{refusal:?}"))?;
        }
        for (to, offer, capture) in effects.snapshots {
            self.send_snapshot(id, to, offer, capture);
        }
        for (from, message) in effects.leases {
            self.lessor_takes(id, LessorEvent::Peer(from, message))?;
        }
        if effects.removed {
            self.clock.after(1, Event::Retire(id));
        }
        let Some(lost) = effects.lost else {
            return Ok(());
        };
        match self.members.get(&id).is_some_and(|member| member.decayed) {
            true if self.mutant == Some(Mutant::LossIgnored) => Ok(()),
            true => self.break_down(id, &lost.to_string()),
            // The other simulated disks keep what they have synced.
            false => Err(format!("{id} takes its log for lost: {lost}")),
        }
    }

    fn refused(&mut self, id: MemberId, proposal: &ProposalId, why: &str) -> Result<(), String> {
        match self.waiting.remove(proposal) {
            Some(Waiter::Client(operation)) => {
                self.finish(operation, Outcome::Refused(why.to_owned()));
            }
            Some(Waiter::Tree(operation)) => {
                self.finish_tree(operation, Outcome::Refused(why.to_owned()));
            }
            Some(Waiter::Expirer(number)) => {
                self.expirer_takes(id, ExpirerEvent::Failed(number));
            }
            Some(Waiter::Lessor(number)) => self.lessor_refused(id, number),
            Some(Waiter::Holder(number, operation)) => self.holder_refused(number, operation),
            Some(Waiter::LockCall(number, step)) => {
                return self.call_answered(number, step, None);
            }
            Some(Waiter::Unlock(number, operation)) => {
                return self.unlock_ends(number, operation, None);
            }
            Some(Waiter::Admin(number)) => return self.admin_answered(number, None),
            None => {}
        }
        Ok(())
    }

    pub(super) fn report_status(&mut self, id: MemberId) -> Result<(), String> {
        self.weigh(id)?;
        let Some(life) = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref())
        else {
            return Ok(());
        };
        let status = life.consensus.status();
        let (boot, applied, durable) = (life.log.boot(), life.applied(), life.durable());
        let most = self.most_applied(id, applied, status.committed);
        self.fact(&Fact::Status {
            member: id,
            boot,
            status,
            applied: applied.min(most),
            durable: durable.min(most),
        })
    }
}
