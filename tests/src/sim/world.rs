//! The world: what exists, what will happen, and the loop that makes it happen.
//!
//! `nodes` says what a member is; here is what it does when an event reaches it. The order within a
//! turn is that of `Output`'s fields, as in the real driver.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keelson_core::node::{Append, Input, Output};
use keelson_core::{Index, MemberId, Millis, ProposalId, SnapshotMark, proposal};
use keelson_proto::peer::peer_message::Message as PeerMessageKind;
use keelson_proto::peer::{PeerMessage, RaftMessage, SnapshotChunk};

use super::clients::Clients;
use super::clock::Clock;
use super::dice::Dice;
use super::mutant::Mutant;
use super::net::{Envelope, Net};
use super::nodes::{self, Life, LogWork, Member};
use super::swarm::Swarm;
use crate::history::{History, Outcome};
use crate::invariant::{Fact, Invariants};

/// What can happen. An event for a life that is over is void.
pub(super) enum Event {
    /// A member takes its turn.
    Turn(MemberId, u64),
    /// A batch arrives.
    Deliver(Box<Envelope>),
    /// A log's sync ends.
    Synced(MemberId, u64),
    /// An applier gets to work.
    Apply(MemberId, u64),
    /// It is time to flush.
    Flush(MemberId, u64),
    /// The engine has what was flushed.
    Flushed(MemberId, u64, Index),
    /// A snapshot arrives.
    Snapshot(Box<Transfer>),
    /// A sender learns how its snapshot fared.
    SnapshotSent(MemberId, u64, MemberId, bool),
    /// A member learns that another has died, or is back.
    Notice(MemberId, u64, MemberId, bool),
    /// A client asks for something.
    Client(u64),
    /// A client gives up.
    GiveUp(usize),
    /// Something goes wrong.
    Fault,
    /// A machine is switched on.
    Start(MemberId),
    /// The operator takes a machine away.
    Retire(MemberId),
}

/// A snapshot on its way.
pub(super) struct Transfer {
    from: MemberId,
    from_boot: u64,
    to: MemberId,
    to_boot: u64,
    offer: RaftMessage,
    chunks: Arc<Vec<SnapshotChunk>>,
}

/// What happened, in numbers.
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
    /// Membership changes that took effect.
    pub changes: u64,
    /// Elections won.
    pub elections: u64,
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
    /// Requests whose answer somebody waits for.
    pub(super) waiting: BTreeMap<ProposalId, usize>,
    /// Every committed command, in order.
    pub(super) commands: Vec<Bytes>,
    pub(super) tally: Tally,
    /// The second phase has begun.
    pub(super) calm: bool,
    pub(super) next_member: u64,
    /// Print every fact.
    pub(super) trace: bool,
}

/// A state's hash is compared every so many entries: it reads all of it.
const HASH_EVERY: u64 = 64;

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
            waiting: BTreeMap::new(),
            commands: Vec::new(),
            tally: Tally::default(),
            calm: false,
            next_member: 100,
            trace: false,
            members: BTreeMap::new(),
            swarm,
        };
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
        let (least, _) = world.swarm.fault_every_ms;
        world.clock.after(1_000 + least, Event::Fault);
        world
    }

    /// Runs until that time.
    pub(super) fn run_until(&mut self, until_ms: u64) -> Result<(), String> {
        while let Some(event) = self.clock.next(until_ms) {
            self.tally.events += 1;
            let now = self.clock.now_ms();
            self.handle(event)
                .map_err(|problem| format!("at {now} ms: {problem}"))?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        let Some(event) = self.hold_if_paused(event) else {
            return Ok(());
        };
        match event {
            Event::Turn(id, boot) if self.lives(id, boot) => self.turn(id),
            Event::Synced(id, boot) if self.lives(id, boot) => self.synced(id),
            Event::Apply(id, boot) if self.lives(id, boot) => self.apply(id),
            Event::Flush(id, boot) if self.lives(id, boot) => {
                self.flush(id);
                Ok(())
            }
            Event::Flushed(id, boot, index) if self.lives(id, boot) => {
                self.flushed(id, index);
                Ok(())
            }
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
            Event::Deliver(envelope) => {
                self.deliver(*envelope);
                Ok(())
            }
            Event::Snapshot(transfer) => {
                self.snapshot_arrives(*transfer);
                Ok(())
            }
            Event::Client(client) => self.client_acts(client),
            Event::GiveUp(operation) => {
                self.give_up(operation);
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
            // For a life that is over.
            _ => Ok(()),
        }
    }

    /// A stopped process takes nothing; it comes later.
    fn hold_if_paused(&mut self, event: Event) -> Option<Event> {
        let id = match &event {
            Event::Turn(id, _)
            | Event::Synced(id, _)
            | Event::Apply(id, _)
            | Event::Flush(id, _)
            | Event::Flushed(id, _, _)
            | Event::SnapshotSent(id, _, _, _)
            | Event::Notice(id, _, _, _) => *id,
            Event::Deliver(envelope) => envelope.to,
            Event::Snapshot(transfer) => transfer.to,
            _ => return Some(event),
        };
        let until = self
            .members
            .get(&id)
            .map_or(0, |member| member.paused_until);
        let wait = until.saturating_sub(self.clock.now_ms());
        if wait == 0 {
            return Some(event);
        }
        if let Event::Turn(id, _) = event
            && let Some(life) = self.life(id)
        {
            life.turn_at = Some(until);
        }
        self.clock.after(wait, event);
        None
    }

    /// Tells the invariants, and whoever follows a trace.
    pub(super) fn fact(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        if self.trace {
            println!("{:>8} {fact:?}", self.clock.now_ms());
        }
        self.invariants.observe(fact)
    }

    pub(super) fn life(&mut self, id: MemberId) -> Option<&mut Life> {
        self.members.get_mut(&id)?.life.as_mut()
    }

    fn lives(&self, id: MemberId, boot: u64) -> bool {
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

    /// Gives a member something to take on its next turn.
    pub(super) fn input(&mut self, id: MemberId, input: Input) {
        if let Some(life) = self.life(id) {
            life.inbox.push(input);
            let now = self.clock.now_ms();
            self.plan_turn(id, now);
        }
    }

    fn plan_turn(&mut self, id: MemberId, at_ms: u64) {
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
        let inputs = std::mem::take(&mut life.inbox);
        if trace {
            println!("{now:>8} inputs of {id}: {inputs:?}");
        }
        let output = life.node.step(Millis(now), inputs);
        let wake_at = output.wake_at.0;
        if self.trace {
            println!("{now:>8} turn of {id}: {output:?}");
        }
        self.carry_out(id, output)?;
        self.plan_turn(id, wake_at);
        self.report_status(id)
    }

    fn carry_out(&mut self, id: MemberId, output: Output) -> Result<(), String> {
        if let Some(standing) = output.standing {
            self.note(id.0 << 32 | standing.term.0 << 2 | standing.role as u64);
            self.tally.elections += u64::from(standing.role == keelson_core::node::Role::Leader);
            self.fact(&Fact::Stood {
                member: id,
                standing,
            })?;
        }
        self.send(id, output.send)?;
        if let Some(append) = output.append {
            self.append(id, append)?;
        }
        self.hand_out(id, output.apply)?;
        for read in output.reads {
            self.read_ready(id, read.context, read.index)?;
        }
        for (proposal, refusal) in output.refused {
            if let Some(operation) = self.waiting.remove(&proposal) {
                self.finish(operation, Outcome::Refused(format!("{refusal:?}")));
            }
        }
        for (to, offer) in output.snapshots {
            self.send_snapshot(id, to, offer);
        }
        let mutant = self.mutant;
        if output.snapshot_wanted
            && let Some(life) = self.life(id)
        {
            life.capture(mutant);
            let now = self.clock.now_ms();
            self.plan_turn(id, now + 1);
        }
        if let Some(mark) = output.truncate {
            self.queue_log(id, LogWork::Truncate(mark));
        }
        if output.removed {
            self.clock.after(1, Event::Retire(id));
        }
        Ok(())
    }

    fn report_status(&mut self, id: MemberId) -> Result<(), String> {
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
            status: life.node.status(),
            applied: life.applied(),
            durable: life.durable(),
        })
    }

    // === messages ===

    fn send(&mut self, from: MemberId, sends: Vec<(MemberId, PeerMessage)>) -> Result<(), String> {
        let mut batches: Vec<(MemberId, Vec<PeerMessage>)> = Vec::new();
        for (to, message) in sends {
            if let Some(PeerMessageKind::Raft(raft)) = &message.message {
                let fact = Fact::Sent {
                    member: from,
                    message: raft,
                };
                self.fact(&fact)?;
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

    fn post(&mut self, from: MemberId, to: MemberId, messages: Vec<PeerMessage>) {
        let envelope = Envelope {
            from,
            from_boot: self.boot(from),
            to,
            to_boot: self.boot(to),
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

    fn deliver(&mut self, envelope: Envelope) {
        let (from, to) = (envelope.from, envelope.to);
        if !self.lives(to, envelope.to_boot) || self.net.is_cut(from, to) {
            return;
        }
        let machine = self.life(to).and_then(|life| life.machine.as_ref());
        if machine.is_some_and(|machine| machine.view().removed(from.0)) {
            return;
        }
        if !self.net.admits(&envelope, self.swarm.reorder) {
            return;
        }
        self.note(to.0 << 48 ^ from.0 << 32 ^ envelope.sequence);
        for message in envelope.messages {
            let Some(message) = message.message else {
                continue;
            };
            let twice = self.mutant == Some(Mutant::ForwardTwice);
            if let (PeerMessageKind::Forward(forward), true) = (&message, twice) {
                self.input(to, Input::Forwarded(forward.clone()));
            }
            self.input(to, input_of(from, message));
        }
    }

    // === the log ===

    fn append(&mut self, id: MemberId, mut append: Append) -> Result<(), String> {
        if let Some((mark, _)) = &append.snapshot {
            self.install(id, *mark)?;
        }
        let fact = Fact::Appended {
            member: id,
            append: &append,
        };
        self.fact(&fact)?;
        if self.mutant == Some(Mutant::SendBeforeSync) {
            self.send(id, std::mem::take(&mut append.send_after))?;
        }
        if self.mutant == Some(Mutant::AckBeforeCommit) {
            self.acknowledge_early(id, &append);
        }
        self.queue_log(id, LogWork::Append(append));
        Ok(())
    }

    fn queue_log(&mut self, id: MemberId, work: LogWork) {
        if let Some(life) = self.life(id) {
            life.log_queue.push_back(work);
            self.begin_sync(id);
        }
    }

    /// The log thread takes all that waits, writes it, and syncs once.
    fn begin_sync(&mut self, id: MemberId) {
        let delay = self.sync_ms();
        let Some(life) = self.life(id) else {
            return;
        };
        if !life.syncing.is_empty() || life.log_queue.is_empty() {
            return;
        }
        life.syncing = life.log_queue.drain(..).collect();
        for work in &life.syncing {
            let gathered = match work {
                LogWork::Append(append) => {
                    let mark = append.snapshot.as_ref().map(|(mark, _)| *mark);
                    life.log.append(append.hard_state, &append.entries, mark)
                }
                LogWork::Truncate(mark) => life.log.append(None, &[], Some(*mark)),
            };
            gathered.expect("the simulated disk fails only when it crashes");
        }
        let boot = life.log.boot();
        self.clock.after(delay, Event::Synced(id, boot));
    }

    fn sync_ms(&mut self) -> u64 {
        let most = match self.dice.chance(self.swarm.slow_sync) {
            true => self.swarm.sync_ms * 50,
            false => self.swarm.sync_ms,
        };
        self.dice.between(0, most)
    }

    fn synced(&mut self, id: MemberId) -> Result<(), String> {
        let mutant = self.mutant;
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let done = std::mem::take(&mut life.syncing);
        let only_votes = |work: &LogWork| match work {
            LogWork::Append(append) => append.entries.is_empty() && append.snapshot.is_none(),
            LogWork::Truncate(_) => false,
        };
        let skip = match mutant {
            Some(Mutant::VoteNotSynced) => done.iter().all(only_votes),
            Some(Mutant::NothingSynced) => true,
            _ => false,
        };
        if !skip {
            let synced = life.log.sync();
            synced.expect("the simulated disk fails only when it crashes");
        }
        let mut number = None;
        let mut sends = Vec::new();
        for work in done {
            match work {
                LogWork::Append(append) => {
                    number = Some(append.number);
                    sends.extend(append.send_after);
                }
                LogWork::Truncate(mark) => self.fact(&Fact::Truncated {
                    member: id,
                    index: mark.index,
                })?,
            }
        }
        if let Some(number) = number {
            self.invariants
                .observe(&Fact::Synced { member: id, number })?;
            self.input(id, Input::Persisted { number });
        }
        self.send(id, sends)?;
        self.begin_sync(id);
        Ok(())
    }

    // === the state machine ===

    fn hand_out(
        &mut self,
        id: MemberId,
        committed: Vec<keelson_core::Committed>,
    ) -> Result<(), String> {
        for committed in &committed {
            self.fact(&Fact::Committed {
                member: id,
                committed,
            })?;
            if self.invariants.ledger().newly_committed.is_some() {
                self.newly_committed(committed);
            }
        }
        if let Some(life) = self.life(id) {
            life.apply_queue.extend(committed);
        }
        self.begin_apply(id);
        Ok(())
    }

    fn newly_committed(&mut self, committed: &keelson_core::Committed) {
        self.note(committed.entry.index.0 << 16 ^ committed.entry.term.0);
        if let Some(conf) = &committed.conf {
            self.membership_changed(conf);
        } else if let Some((_, command)) = proposal::decode(&committed.entry.data) {
            self.commands.push(command);
        }
    }

    fn begin_apply(&mut self, id: MemberId) {
        let delay = self.dice.between(0, self.swarm.apply_ms);
        let Some(life) = self.life(id) else {
            return;
        };
        if !life.applying && !life.apply_queue.is_empty() {
            life.applying = true;
            let boot = life.log.boot();
            self.clock.after(delay, Event::Apply(id, boot));
        }
    }

    fn apply(&mut self, id: MemberId) -> Result<(), String> {
        let most = self.dice.between(1, 64);
        for _ in 0..most {
            let Some(life) = self.life(id) else {
                return Ok(());
            };
            let Some(committed) = life.apply_queue.pop_front() else {
                break;
            };
            self.apply_one(id, committed)?;
        }
        if let Some(life) = self.life(id) {
            life.applying = false;
        }
        self.serve_ready(id);
        self.begin_apply(id);
        Ok(())
    }

    fn apply_one(
        &mut self,
        id: MemberId,
        mut entry: keelson_core::Committed,
    ) -> Result<(), String> {
        let index = entry.entry.index;
        let skipped = self.mutant == Some(Mutant::EntrySkipped) && id.0 == 2 && index.0 % 50 == 0;
        if skipped {
            entry.entry.data = Bytes::new();
        }
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        let life = member.life.as_mut().expect("a running process applies");
        let machine = life
            .machine
            .as_mut()
            .ok_or("entries for a member without state")?;
        let request = match &entry.conf {
            Some(conf) => Some(conf.id),
            None => proposal::decode(&entry.entry.data).map(|(request, _)| request),
        };
        let mine = |request: &ProposalId| request.member == id && request.boot == life.boot;
        let operation = request.filter(mine).and_then(|id| self.waiting.remove(&id));
        let applied = machine
            .apply(&entry, operation.is_some())
            .map_err(|error| error.to_string())?;
        let hash = match index.0 % HASH_EVERY {
            0 => Some(machine.view().hash_kv(0).map_err(|e| e.to_string())?.hash),
            _ => None,
        };
        self.fact(&Fact::Applied {
            member: id,
            index,
            revision: applied.revision,
            hash,
        })?;
        if let Some(operation) = operation {
            self.answer(operation, applied.response);
        }
        Ok(())
    }

    fn flush(&mut self, id: MemberId) {
        let delay = self.sync_ms();
        let every = self.swarm.flush_every_ms;
        let Some(life) = self.life(id) else {
            return;
        };
        let boot = life.log.boot();
        let mut flushed = None;
        if let Some(machine) = &mut life.machine {
            for _ in 0..4 {
                machine.compact_step();
            }
            if life.flushing.is_none() {
                life.flushing = machine.freeze();
                flushed = life.flushing.as_ref().map(|flush| flush.index);
            }
        }
        if let Some(index) = flushed {
            self.clock.after(delay, Event::Flushed(id, boot, index));
        }
        self.clock.after(every, Event::Flush(id, boot));
    }

    fn flushed(&mut self, id: MemberId, index: Index) {
        let mutant = self.mutant;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(life) = member.life.as_mut() else {
            return;
        };
        let Some(flush) = life.flushing.take_if(|flush| flush.index == index) else {
            return;
        };
        match mutant {
            Some(Mutant::FlushWithoutMark) => member.storage.write_rows_only(&flush.batch),
            _ => member.storage.write(&flush.batch),
        }
        let applied = life.applied();
        if let Some(machine) = &mut life.machine {
            machine.flushed(flush);
        }
        let index = match mutant {
            Some(Mutant::TruncateTooFar) => applied,
            _ => index,
        };
        self.input(id, Input::Durable { index });
    }

    // === snapshots ===

    fn send_snapshot(&mut self, from: MemberId, to: MemberId, offer: RaftMessage) {
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

    fn snapshot_fared(&mut self, from: MemberId, from_boot: u64, to: MemberId, ok: bool) {
        let delay = self.dice.between(1, 1 + self.swarm.delay_ms * 2);
        let event = Event::SnapshotSent(from, from_boot, to, ok);
        self.clock.after(delay, event);
    }

    fn snapshot_arrives(&mut self, transfer: Transfer) {
        let Transfer { from, to, .. } = transfer;
        let broken = !self.lives(to, transfer.to_boot)
            || !self.lives(from, transfer.from_boot)
            || self.net.is_cut(from, to)
            || self.dice.chance(self.swarm.drop);
        let mark = nodes::offered(&transfer.offer).filter(|_| !broken);
        let built = mark.zip(nodes::build(&transfer.chunks));
        let arrived = built.is_some();
        if let (Some((mark, engine)), Some(life)) = (built, self.life(to)) {
            // A few may wait for consensus to decide; the oldest are surely decided on.
            if 4 <= life.received.len() {
                life.received.remove(0);
            }
            life.received.push((mark, engine));
            self.input(to, Input::SnapshotReceived(transfer.offer));
        }
        // An answer that gets lost reads as a failure.
        let ok = arrived && !self.net.is_cut(to, from);
        self.snapshot_fared(from, transfer.from_boot, to, ok);
    }

    fn install(&mut self, id: MemberId, mark: SnapshotMark) -> Result<(), String> {
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
        };
        if machine.applied().index != mark.index.0 {
            return Err(format!(
                "{id} installed {:?} for {mark:?}",
                machine.applied()
            ));
        }
        self.fact(&fact)
    }

    // === life and death ===

    pub(super) fn start(&mut self, id: MemberId) -> Result<(), String> {
        let (swarm, mutant, seed) = (&self.swarm, self.mutant, self.seed);
        let Some(member) = self.members.get_mut(&id) else {
            return Ok(());
        };
        if member.life.is_some() || member.retired {
            return Ok(());
        }
        let (restored, mark) = member.start(swarm, mutant, seed)?;
        self.tally.restarts += u64::from(1 < member.lives);
        let life = member.life.as_mut().expect("just started");
        let boot = life.log.boot();
        self.fact(&Fact::Recovered {
            member: id,
            boot,
            restored: &restored,
        })?;
        if let Some(mark) = mark {
            let append = Append {
                snapshot: Some((mark, Default::default())),
                ..Default::default()
            };
            let fact = Fact::Appended {
                member: id,
                append: &append,
            };
            self.fact(&fact)?;
            let number = append.number;
            self.invariants
                .observe(&Fact::Synced { member: id, number })?;
        }
        self.report_status(id)?;
        let now = self.clock.now_ms();
        self.note(id.0 << 8 ^ boot ^ now << 20);
        self.plan_turn(id, now);
        self.clock
            .after(self.swarm.flush_every_ms, Event::Flush(id, boot));
        self.tell_peers(id, false);
        Ok(())
    }

    /// The process dies, and with it perhaps the power.
    pub(super) fn crash(&mut self, id: MemberId, power_fails: bool) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(mut life) = member.kill() else {
            return;
        };
        if let (Some(Mutant::FlushTorn), Some(flush)) = (self.mutant, &life.flushing) {
            member.storage.write_half(&flush.batch);
        }
        member
            .storage
            .crash(&mut life.log, power_fails, &mut self.dice);
        let boot = life.log.boot();
        self.net.forget(id, boot);
        self.waiting
            .retain(|request, _| (request.member, request.boot) != (id, life.boot));
        self.note(id.0 << 24 ^ 0xdead);
        self.tell_peers(id, true);
    }

    /// Connections reset, or are accepted again: peers notice, unless the link is cut.
    fn tell_peers(&mut self, about: MemberId, down: bool) {
        if !self.swarm.notices {
            return;
        }
        let others: Vec<MemberId> = self.members.keys().copied().collect();
        for other in others {
            let boot = self.boot(other);
            if other != about && boot != 0 && !self.net.is_cut(about, other) {
                let delay = self.dice.between(1, 5);
                self.clock
                    .after(delay, Event::Notice(other, boot, about, down));
            }
        }
    }

    pub(super) fn retire(&mut self, id: MemberId) {
        self.crash(id, false);
        if let Some(member) = self.members.get_mut(&id) {
            member.retired = true;
        }
    }
}

/// What a peer's message is to consensus.
fn input_of(from: MemberId, message: PeerMessageKind) -> Input {
    match message {
        PeerMessageKind::Raft(message) => Input::Raft(message),
        PeerMessageKind::Forward(forward) => Input::Forwarded(forward),
        PeerMessageKind::Refused(refused) => Input::Refused(refused),
        PeerMessageKind::ReadIndexRequest(request) => Input::ReadIndexRequested { from, request },
        PeerMessageKind::ReadIndexResponse(response) => Input::ReadIndexAnswered(response),
    }
}
