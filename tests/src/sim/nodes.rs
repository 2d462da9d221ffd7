//! One simulated member: the product's consensus and applier, and what carries out their effects.
//!
//! It has the product's threads as queues on the virtual clock: a log that syncs in its own time,
//! an applier that lags behind, an engine that is flushed in the background, and snapshots that
//! travel beside the messages.

use std::collections::VecDeque;
use std::sync::Arc;

use keelson_core::engine::MemoryEngine;
use keelson_core::member::{
    Applier, ApplierEffects, BatchedReads, Consensus, ConsensusEvent, EngineNumber, ReadTicket,
};
use keelson_core::node::{Node, NodeConfig, Restored};
use keelson_core::state::{Capture, Flush, Genesis, Limits, SnapshotBuilder, StateMachine};
use keelson_core::{Index, LastIncluded, MemberId, Roster};
use keelson_proto::internal::AppliedMark;
use keelson_proto::peer::{SnapshotChunk, snapshot_chunk};
use keelson_store::internals::disk::sim::SimDisk;
use keelson_store::internals::engine::generation::Generations;
use keelson_store::internals::recovery::Opened;
use keelson_store::internals::wal::WalError;

use super::applier::Work;
use super::auth;
use super::corruption;
use super::damage::Damage;
use super::lease::LessorShell;
use super::log_thread::LogThread;
use super::mutant::Mutant;
use super::peers::{Peers, urls_of};
use super::reads::{Read, ReadOrigin};
use super::storage::{self, CLUSTER, Log, Storage};
use super::swarm::Swarm;
use super::transfers::{Arrival, Receiving};
use super::tree::{self, ExpirerShell, HubShell};
use super::watch::WatchShell;

/// A machine, with or without a process.
pub(super) struct Member {
    pub(super) id: MemberId,
    /// The genesis with which it founded the cluster; none for one that joins.
    pub(super) founding: Option<Genesis>,
    pub(super) storage: Storage,
    pub(super) life: Option<Life>,
    /// The number of its incarnations so far.
    pub(super) lives: u64,
    /// The operator has taken it away for good.
    pub(super) retired: bool,
    /// The process is stopped until this time.
    pub(super) paused_until: u64,
    /// When it last died or stopped.
    pub(super) silent_since: u64,
    /// Its engine finishes no write until this time.
    pub(super) engine_hangs_until: u64,
    /// Its log's disk finishes no sync until this time.
    pub(super) disk_stalls_until: u64,
    /// Bytes that wait for it while it is stopped.
    pub(super) under_way_bytes: usize,
    /// It was added by mistake: it has no machine of its own until all others have made progress.
    pub(super) ghost: bool,
    /// It refuses to go on with its data.
    pub(super) broken: bool,
    /// It has lost acknowledged entries undetected.
    pub(super) decayed: bool,
    /// Its disk was replaced by an empty one.
    pub(super) has_lost_disk: bool,
    /// The damage to its disk while it is down.
    pub(super) damage: Option<Damage>,
    /// The number of its last incarnation.
    pub(super) last_boot: u64,
}

/// A running process: all of this is gone when it dies.
pub(super) struct Life {
    /// The incarnation, as counted by the log.
    pub(super) boot: u64,
    pub(super) consensus: Consensus,
    pub(super) log: Log,
    pub(super) applier: Applier,
    pub(super) generations: Generations<SimDisk>,
    /// When the applier is due.
    pub(super) applier_due_at: Option<u64>,
    pub(super) inbox: Vec<ConsensusEvent>,
    /// The size of the peers' messages in it.
    pub(super) inbox_bytes: usize,
    pub(super) peers: Peers,
    /// When the next turn is planned.
    pub(super) turn_at: Option<u64>,
    pub(super) log_thread: LogThread,
    /// What waits for the applier, in order.
    pub(super) apply_queue: VecDeque<Work>,
    pub(super) applying: bool,
    pub(super) flushing: Option<(EngineNumber, Flush)>,
    /// For a mutant: the last two captures, the newest last. A capture that is kept delays
    /// compaction.
    pub(super) captures: Vec<Capture>,
    /// Received snapshots whose offer has not been decided on.
    pub(super) received: Vec<Arrival>,
    pub(super) receiving: Receiving,
    /// Reads, until the applier releases them.
    pub(super) reads: BatchedReads<Read>,
    /// The places of the readers that have no answer yet.
    pub(super) readers: Vec<(ReadOrigin, ReadTicket)>,
    /// For a mutant: the batch that consensus took last, and the reads that joined it afterwards.
    pub(super) late_readers: Option<(u64, Vec<Read>)>,
    pub(super) proposals: u64,
    pub(super) expirer: ExpirerShell,
    pub(super) lessor: LessorShell,
    pub(super) hub: HubShell,
    pub(super) watches: WatchShell,
    /// When it was elected; none if it does not lead.
    pub(super) leads_since: Option<u64>,
}

/// A capture that no follower needs is released after this time, in milliseconds: it delays
/// compaction.
const CAPTURE_KEPT_MS: u64 = 2_000;

impl Member {
    /// A machine of a new cluster, or one that will join (no genesis).
    pub(super) fn new(id: MemberId, founding: Option<Genesis>) -> Member {
        Member {
            id,
            founding,
            storage: Storage::new(),
            life: None,
            lives: 0,
            retired: false,
            paused_until: 0,
            silent_since: 0,
            engine_hangs_until: 0,
            disk_stalls_until: 0,
            under_way_bytes: 0,
            ghost: false,
            broken: false,
            decayed: false,
            has_lost_disk: false,
            damage: None,
            last_boot: 0,
        }
    }

    /// Starts the process, as the product does. Returns the contents of the log, and the last
    /// included entry of the snapshot behind which the log has begun anew, if any.
    ///
    /// # Errors
    /// The product's, with its text.
    pub(super) fn start(
        &mut self,
        swarm: &Swarm,
        mutant: Option<Mutant>,
        seed: u64,
        genesis: Option<Genesis>,
    ) -> Result<(Restored, Option<LastIncluded>), String> {
        let mut opened = self.storage.open(self.id);
        while mutant == Some(Mutant::DamageRepaired)
            && let Err(WalError::Damaged { file, offset, .. }) = &opened
            && 0 < *offset
        {
            self.storage.forget_from(file, *offset);
            opened = self.storage.open(self.id);
        }
        let (mut log, mut recovered) = opened.map_err(|e| e.to_string())?;
        match mutant {
            Some(Mutant::TailForgotten) => drop(recovered.entries.pop()),
            Some(Mutant::HardStateForgotten) => recovered.hard_state = Default::default(),
            _ => {}
        }
        let boot = match mutant {
            Some(Mutant::BootReused) => 1,
            _ => recovered.boot,
        };
        let mut config = config(self.id, boot, swarm, seed);
        if let Some(bounds) = swarm.bounds
            && mutant != Some(Mutant::MemoryUnbounded)
        {
            bounds.configure(&mut config);
        }
        let restored = Restored {
            hard_state: recovered.hard_state,
            log_start: recovered.mark,
            entries: recovered.entries.clone(),
            ..Restored::default()
        };
        let opened = self
            .storage
            .go_on(&mut log, recovered, genesis, config, mutant);
        let opened = opened.map_err(|e| e.to_string())?;
        self.lives += 1;
        let mark = opened.mark;
        let expirers = (
            ExpirerShell::new(swarm, mutant),
            LessorShell::new(boot, swarm),
        );
        let life = Life::new(self.id, boot, log, opened, (swarm, mutant), expirers);
        self.life = Some(life);
        Ok((restored, mark))
    }

    /// The process dies.
    pub(super) fn kill(&mut self) -> Option<Life> {
        self.paused_until = 0;
        self.life.take()
    }
}

fn config(member: MemberId, boot: u64, swarm: &Swarm, seed: u64) -> NodeConfig {
    NodeConfig {
        heartbeat_ms: swarm.heartbeat_ms,
        election_ms: swarm.election_ms,
        pre_vote: swarm.pre_vote,
        seed,
        catch_up_entries: swarm.catch_up_entries,
        catch_up_bytes: swarm.catch_up_bytes,
        uncommitted_bytes_max: swarm.uncommitted_bytes_max,
        append_bytes_max: swarm.append_bytes_max,
        strict_reconfig_check: swarm.strict_reconfig_check,
        ..NodeConfig::new(member, boot)
    }
}

fn consensus(node: Node, swarm: &Swarm) -> Consensus {
    let consensus = Consensus::new(node, CAPTURE_KEPT_MS);
    match swarm.corruption {
        true => consensus.with_audits(corruption::AUDITS),
        false => consensus,
    }
}

impl Life {
    fn new(
        member: MemberId,
        boot: u64,
        log: Log,
        opened: Opened<SimDisk>,
        (swarm, mutant): (&Swarm, Option<Mutant>),
        (expirer, lessor): (ExpirerShell, LessorShell),
    ) -> Life {
        let mut peers = Peers::new(member);
        peers.apply(&opened.state.view().roster(), urls_of);
        let applier = Applier::new(member, boot, opened.state, swarm.flushes(mutant));
        let applier = applier.with_watch_limits(swarm.streams.limits());
        let watches = WatchShell::new(&applier, swarm, mutant);
        Life {
            boot,
            consensus: consensus(opened.node, swarm),
            log,
            applier,
            generations: opened.generations,
            applier_due_at: None,
            inbox: Vec::new(),
            inbox_bytes: 0,
            peers,
            turn_at: None,
            log_thread: LogThread::default(),
            apply_queue: VecDeque::new(),
            applying: false,
            flushing: None,
            captures: Vec::new(),
            received: Vec::new(),
            receiving: Receiving::default(),
            reads: BatchedReads::default(),
            readers: Vec::new(),
            late_readers: None,
            proposals: 0,
            expirer,
            lessor,
            hub: HubShell::default(),
            watches,
            leads_since: None,
        }
    }

    /// Its state machine. A member that joins has none until it has received one, and serves no
    /// client before.
    pub(super) fn machine(&self) -> Option<&StateMachine> {
        Some(self.applier.state()).filter(|state| state.applied().index != 0)
    }

    pub(super) fn applied(&self) -> Index {
        self.applier.applied()
    }

    pub(super) fn durable(&self) -> Index {
        self.applier.state().durable()
    }

    /// Consensus took a snapshot: its engine replaces the old one.
    pub(super) fn switch_engine(
        &mut self,
        mark: LastIncluded,
        storage: &mut Storage,
    ) -> ApplierEffects {
        let found = self
            .received
            .iter()
            .position(|received| received.mark == mark);
        let found = found.expect("consensus takes only what was received");
        let Arrival { fresh, .. } = self.received.swap_remove(found);
        let switched = self.generations.switch(&fresh, mark);
        switched.expect("the simulated disk fails only when it crashes");
        let removed = self.generations.remove_others();
        removed.expect("the simulated disk fails only when it crashes");
        let engine = storage.use_engine(&fresh.dir);
        let machine = StateMachine::open(engine, Limits::default());
        let machine = machine.expect("a received snapshot opens");
        let machine = machine.expect("a received snapshot is complete");
        let mut effects = ApplierEffects::default();
        self.applier.install(machine, &mut effects);
        self.flushing = None;
        self.apply_queue.retain(|work| work.is_after(mark.index));
        for committed in std::mem::take(&mut effects.again).into_iter().rev() {
            self.apply_queue
                .push_front(Work::Entry(Box::new(committed)));
        }
        effects
    }

    /// Received snapshots that the last turn did not install are stale.
    pub(super) fn discard_received(&mut self) {
        for arrival in self.received.drain(..) {
            let discarded = self.generations.discard(&arrival.fresh);
            discarded.expect("the simulated disk fails only when it crashes");
        }
    }
}

/// Fills a new engine with a snapshot's chunks; none if they are damaged.
pub(super) fn build(chunks: &[SnapshotChunk], mutant: Option<Mutant>) -> Option<Arc<MemoryEngine>> {
    let engine = Arc::new(MemoryEngine::new());
    let mut builder = Some(SnapshotBuilder::new(Arc::clone(&engine) as Arc<_>));
    for chunk in chunks {
        match chunk.part.clone()? {
            snapshot_chunk::Part::Rows(rows) => builder.as_mut()?.push(rows).ok()?,
            snapshot_chunk::Part::End(end) => builder.take()?.finish(end).ok()?,
            snapshot_chunk::Part::Offer(_) => {}
        }
    }
    match mutant {
        Some(Mutant::HashOfSnapshotForgotten) => corruption::forget_hash(&engine),
        Some(Mutant::SnapshotWithoutTree) => tree::forget_rows(&engine),
        Some(Mutant::SnapshotWithoutAuth) => auth::forget_rows(&engine),
        Some(Mutant::SnapshotWithoutTombstones) => storage::forget_tombstones(&engine),
        _ => {}
    }
    Some(engine)
}

/// The members in an engine that was filled from a snapshot, if it is the one that was offered.
pub(super) fn roster_of(engine: &Arc<MemoryEngine>, mark: LastIncluded) -> Option<Roster> {
    let machine = StateMachine::open(Arc::clone(engine) as Arc<_>, Limits::default());
    let machine = machine.ok()??;
    let is_offered = LastIncluded::from(&machine.applied()) == mark;
    is_offered.then(|| machine.view().roster())
}

/// A member's peer URL, and those it moves to later.
pub(super) fn url_of(id: MemberId, move_number: u64) -> String {
    format!("http://m{}.{move_number}:2380", id.0)
}

/// The genesis of a cluster of these members.
pub(super) fn genesis(members: &[MemberId]) -> Genesis {
    let member = |id: &MemberId| keelson_proto::etcdserverpb::Member {
        id: id.0,
        peer_ur_ls: vec![url_of(*id, 0)],
        ..Default::default()
    };
    Genesis {
        cluster_id: CLUSTER,
        members: members.iter().map(member).collect(),
        mark: AppliedMark {
            index: 1,
            term: 1,
            conf_state: Some(keelson_proto::internal::ConfState {
                voters: members.iter().map(|id| id.0).collect(),
                ..Default::default()
            }),
            hash: None,
        },
    }
}
