//! The world: all simulated state, the planned events, and the loop that handles them.
//!
//! `nodes` defines a member; this module defines what an event does to it. A turn's effects are
//! carried out in the order of their fields, as by the product's driver.

use std::collections::BTreeMap;

use keelson_core::member::{
    ConsensusEffects, ConsensusEvent, ExpirerEvent, LessorEvent, LogWork, TransferNumber,
};
use keelson_core::node::Input;
use keelson_core::{Index, MemberId, Millis, ProposalId};
use keelson_proto::internal::member_change;

use super::clients::Clients;
use super::clock::Clock;
use super::dice::Dice;
use super::lease::LeaseWorld;
use super::mutant::Mutant;
use super::net::{Envelope, Net};
use super::nodes::{self, Life, Member};
use super::snapshots::Audit;
use super::swarm::Swarm;
use super::transfers::Transfer;
use super::tree::TreeWorld;
use super::watch::WatchWorld;
use crate::history::{History, Outcome};
use crate::invariant::{Fact, Invariants};

/// The interval at which a snapshot's transfer is checked while one of its ends is stopped, in
/// milliseconds.
const HELD_MS: u64 = 1_000;

/// The kinds of event. An event for an incarnation that has ended has no effect.
pub(super) enum Event {
    /// A member takes its turn.
    Turn(MemberId, u64),
    /// A batch arrives.
    Deliver(Box<Envelope>),
    /// The other members have answered a query for the member list.
    PeersAnswer(MemberId, u64),
    /// A log's sync ends.
    Synced(MemberId, u64),
    /// A log checks whether it is still idle.
    LogPause(MemberId, u64),
    /// An applier takes its work.
    Apply(MemberId, u64),
    /// An applier is due.
    ApplierDue(MemberId, u64),
    /// The engine has stored what was flushed.
    Flushed(MemberId, u64, Index),
    /// A snapshot is offered to its receiver.
    SnapshotOffer(Box<Transfer>),
    /// A snapshot's sender reads the next piece.
    SnapshotPiece(Box<Transfer>),
    /// A piece, or the end of all pieces, reaches the receiver.
    PieceArrives(Box<Transfer>),
    /// A receiver checks whether a transfer has brought more than this number of pieces.
    PieceOverdue(MemberId, u64, TransferNumber, usize),
    /// A transfer ends in favour of another one.
    Evicted(MemberId, u64, TransferNumber),
    /// The next piece of a member's state is read for a comparison.
    AuditPiece(Box<Audit>),
    /// A sender gets the result of its snapshot.
    SnapshotSent(MemberId, u64, MemberId, bool),
    /// A member is notified that another has died, or is back.
    Notice(MemberId, u64, MemberId, bool),
    /// A client sends a request.
    Client(u64),
    /// A client's request times out.
    GiveUp(usize),
    /// A request of a client of the v2 API times out.
    TreeGiveUp(usize),
    /// A request reaches the member's timeout, whether a client waits for it or not.
    Forget(ProposalId),
    /// A watcher of the v2 tree reads new events.
    Watch(usize),
    /// A watcher that has scanned a member's history is registered there.
    WatcherEnters(MemberId, u64),
    /// A member sends its watchers some of the queued events.
    DeliverEvents(MemberId, u64),
    /// A client with a stream of v3 watches takes its turn.
    StreamClient(usize),
    /// A member delivers some revisions to the streams of v3 watches.
    FanOut(MemberId, u64),
    /// A member checks which nodes of the v2 tree are due.
    Expirer(MemberId, u64),
    /// A member's lessor is due.
    Lessor(MemberId, u64),
    /// A member's lessor makes a refused proposal again.
    LessorAgain(MemberId, u64, u64),
    /// The renewal with that number, of that lease, reaches a member.
    Renewal(MemberId, u64, u64, i64),
    /// A holder of a lease sends a request.
    Holder(usize),
    /// A holder's operation times out.
    HolderGivesUp(usize, u64),
    /// A fault is injected.
    Fault,
    /// A machine is switched on.
    Start(MemberId),
    /// The operator takes a machine away.
    Retire(MemberId),
    /// The operator replaces a dead member.
    Replace,
    /// The operator replaces a member that refuses to go on.
    Repair(MemberId),
    /// A member publishes its URLs.
    Publish(MemberId, u64),
}

/// The origin of a request, which waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A client, for this operation.
    Client(usize),
    /// A client of the v2 API.
    Tree(usize),
    /// The member's expirer, for its read with this number.
    Expirer(u64),
    /// The member's lessor, for its proposal with this number.
    Lessor(u64),
    /// A holder of a lease, for its operation with this number.
    Holder(usize, u64),
}

/// Counts of what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Events handled.
    pub events: u64,
    /// Faults injected.
    pub faults: u64,
    /// Processes started again.
    pub restarts: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Snapshots damaged on their way.
    pub garbled: u64,
    /// Disks damaged.
    pub damages: u64,
    /// Members that refused to go on.
    pub refused: u64,
    /// Clusters that the damage to all members has left without a quorum.
    pub ended: u64,
    /// Damage that no member can detect and that would cost acknowledged writes: it was undone.
    pub undone: u64,
    /// Damage that no member can detect, and that the leader detects.
    pub decayed: u64,
    /// Membership changes that took effect.
    pub changes: u64,
    /// Elections won.
    pub elections: u64,
    /// Expired nodes of the v2 tree.
    pub expiries: u64,
    /// Leases that have expired.
    pub expired_leases: u64,
    /// Events that watchers of the v2 tree received.
    pub watched: u64,
    /// Watches whose history was already cleared.
    pub cleared: u64,
    /// Streams that ended because they were too far behind.
    pub behind: u64,
    /// Watches that went on from a snapshot's history, or were cut there.
    pub resumed: u64,
    /// Events that v3 watches received.
    pub sent: u64,
    /// v3 watches that a compaction has ended.
    pub compacted: u64,
    /// A hash over everything that happened.
    pub trace: u64,
}

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
    /// Requests whose answer is waited for.
    pub(super) waiting: BTreeMap<ProposalId, Waiter>,
    pub(super) watches: WatchWorld,
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
            waiting: BTreeMap::new(),
            watches: WatchWorld::new(&swarm),
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
        for watcher in 0..world.swarm.watchers {
            let number = usize::try_from(watcher).expect("a few");
            world.clock.after(1_000, Event::Watch(number));
        }
        for number in 0..world.swarm.streams.clients {
            let number = usize::try_from(number).expect("a few");
            world.clock.after(1_000, Event::StreamClient(number));
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
            self.handle(event)
                .map_err(|problem| format!("at {now} ms: {problem}"))?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
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
    fn turn(&mut self, id: MemberId) -> Result<(), String> {
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
            self.refused(id, &proposal, &format!("{refusal:?}"));
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

    fn refused(&mut self, id: MemberId, proposal: &ProposalId, why: &str) {
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
            None => {}
        }
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
        self.fact(&Fact::Status {
            member: id,
            boot: life.log.boot(),
            status: life.consensus.status(),
            applied: life.applied(),
            durable: life.durable(),
        })
    }
}
