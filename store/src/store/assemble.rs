//! The wiring of a member: its parts, the queues between them, and its threads.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use keelson_core::engine::Engine;
use keelson_core::member::{Applier, ApplierEffects, Consensus, FlushPolicy, LogWork};
use keelson_core::state::auth::Caller;
use keelson_port::ClientTls;
use keelson_port::http2::RateLimit;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::service::Routes;

use super::{Inner, Store};
use crate::Config;
use crate::defrag::Storage;
use crate::disk::RealDisk;
use crate::edge::{CallMetrics, SeenTokens, Unread};
use crate::lease::LessorInbox;
use crate::long_range::LongRanges;
use crate::member::applier_shell::ApplierShell;
use crate::member::consensus_shell::ConsensusShell;
use crate::member::fatal::Fatal;
use crate::member::flusher::{self, FlushJob};
use crate::member::inbox::{self, MemberInbox};
use crate::member::log_writer::LogWriter;
use crate::member::recover::MemberParts;
use crate::member::staging::Stager;
use crate::member::waiters::Waiters;
use crate::member::worker::{MemberExecutor, Worker, WorkerEvent};
use crate::metrics::{CompactionClock, MemberMetrics};
use crate::open_error::OpenError;
use crate::peer::{CallerGate, Links, PeerService};
use crate::reads::ReadBatches;
use crate::shared::Shared;
use crate::space::Reason;
use crate::traces::Traces;
use crate::tree::Hub;
use crate::usage::Account;
use crate::wal::Wal;
use crate::watch::Watches;

/// A captured state that was sent to no follower for this long, in milliseconds, is released: it
/// holds compaction back.
const CAPTURE_KEPT_MS: u64 = 10_000;

/// A memtable of this size, in bytes, is flushed early: the configuration does not bound it
/// otherwise.
const FLUSH_BYTES: u64 = 16 << 20;

/// The limit of applied data in memory that is not yet in the engine, in bytes. Beyond it writes
/// wait for the engine.
const BACKLOG_BYTES_MAX: u64 = 64 << 20;

/// Connects the parts with queues, starts the threads, and returns the peer port's routes as well.
///
/// # Errors
/// A thread does not start.
pub(super) fn assemble(
    config: Config,
    parts: MemberParts,
    tls: ClientTls,
    hub: Arc<Hub>,
    fatal: Fatal,
) -> Result<(Store, Routes), OpenError> {
    let wiring = Wiring::new(&parts, tls, hub, fatal);
    let (log, log_jobs) = unbounded();
    let (flushes, flush_jobs) = bounded(1);
    let (member, incarnation) = (parts.identity.member, parts.incarnation);
    let applier = Applier::new(member, incarnation, parts.state, flush_policy(&config));
    let watches = Watches::new(Arc::clone(applier.watches()), wiring.fatal.clone());
    let mut applier = wiring.applier(applier, parts.engine, flushes, watches.clone());
    applier.warning = Duration::from_millis(config.warning_apply_ms);
    let consensus =
        Consensus::new(parts.node, CAPTURE_KEPT_MS).with_audits(config.corruption.audits);
    let consensus = wiring.consensus(consensus, log);
    wiring.executor.start(Worker::new(consensus, applier));
    let threads = wiring.threads(parts.wal, log_jobs, flush_jobs)?;
    let storage = Storage::new(&parts.generations, parts.options, wiring.fatal.clone());
    let stager = Stager {
        generations: parts.generations,
        options: parts.options,
        limits: parts.limits,
        command_version: config.command_version,
        executor: Arc::clone(&wiring.executor),
        slot: Arc::default(),
        in_use: wiring.shared.jobs.token(),
    };
    let peers = wiring.peers(stager, parts.is_new);
    let _ = wiring.executor.send(WorkerEvent::MembersChanged);
    let stopping = watch::Sender::new(false);
    let inner = Arc::new(Inner {
        traces: Traces::of(&config, &stopping)?,
        calls: CallMetrics::new(config.extensive_metrics),
        config,
        shared: wiring.shared,
        waiters: wiring.waiters,
        reads: wiring.reads,
        long_ranges: LongRanges::default(),
        seen_tokens: wiring.seen_tokens,
        links: wiring.links,
        lessor: wiring.lessor,
        metrics: wiring.metrics,
        account: Account::default(),
        executor: wiring.executor,
        hub: wiring.hub,
        watches,
        waits: Unread::default(),
        alarm_reason: Reason::at_start(),
        storage,
        snapshot_slots: Arc::new(tokio::sync::Semaphore::new(crate::snapshot::SNAPSHOTS_MAX)),
        committed_at_start: parts.committed,
        is_new: parts.is_new,
        started: SystemTime::now(),
        log_control: OnceLock::new(),
        stopping,
        is_ready: AtomicBool::new(false),
        published: watch::Sender::new(false),
        threads: Mutex::new(threads),
        tasks: Mutex::default(),
    });
    let caller = Arc::new(Caller::Member);
    Ok((Store { inner, caller }, peers))
}

fn flush_policy(config: &Config) -> FlushPolicy {
    FlushPolicy {
        interval_ms: config.flush_interval_ms,
        records: config.flush_records,
        bytes: FLUSH_BYTES,
        backlog_bytes_max: BACKLOG_BYTES_MAX,
    }
}

/// What several parts of a member share.
struct Wiring {
    executor: Arc<MemberExecutor>,
    shared: Arc<Shared>,
    waiters: Arc<Waiters>,
    reads: Arc<ReadBatches>,
    links: Links,
    lessor: Arc<LessorInbox>,
    metrics: Arc<MemberMetrics>,
    seen_tokens: Arc<SeenTokens>,
    hub: Arc<Hub>,
    fatal: Fatal,
}

impl Wiring {
    fn new(parts: &MemberParts, tls: ClientTls, hub: Arc<Hub>, fatal: Fatal) -> Wiring {
        let executor = MemberExecutor::new();
        let (cluster, member) = (parts.identity.cluster, parts.identity.member);
        let (view, status) = (parts.state.view(), parts.node.status());
        let shared = Arc::new(Shared::new(cluster, member, view, status));
        let runtime = tokio::runtime::Handle::current();
        let listener = inbox::listener(Arc::clone(&executor), Arc::clone(&shared));
        Wiring {
            waiters: Arc::new(Waiters::new(member, parts.incarnation)),
            reads: Arc::new(ReadBatches::new(Arc::clone(&executor))),
            lessor: Arc::new(LessorInbox::new(parts.incarnation)),
            links: Links::new(cluster, member, parts.incarnation, listener, runtime).with_tls(tls),
            metrics: Arc::new(MemberMetrics::new()),
            seen_tokens: Arc::default(),
            executor,
            shared,
            hub,
            fatal,
        }
    }

    fn applier(
        &self,
        applier: Applier,
        engine: Arc<dyn Engine>,
        flushes: Sender<FlushJob>,
        watches: Watches,
    ) -> ApplierShell {
        ApplierShell {
            applier,
            effects: ApplierEffects::default(),
            engine,
            flushes,
            waiters: Arc::clone(&self.waiters),
            reads: Arc::clone(&self.reads),
            shared: Arc::clone(&self.shared),
            hub: Arc::clone(&self.hub),
            lessor: Arc::clone(&self.lessor),
            watches,
            metrics: Arc::clone(&self.metrics),
            compaction: CompactionClock::default(),
            warning: Duration::MAX,
            warning_lines: RateLimit::default(),
            fatal: self.fatal.clone(),
        }
    }

    fn consensus(&self, consensus: Consensus, log: Sender<LogWork>) -> ConsensusShell {
        ConsensusShell {
            consensus,
            executor: Arc::clone(&self.executor),
            log,
            outbox: self.links.clone(),
            waiters: Arc::clone(&self.waiters),
            reads: Arc::clone(&self.reads),
            shared: Arc::clone(&self.shared),
            lessor: Arc::clone(&self.lessor),
            fatal: self.fatal.clone(),
            events: Vec::new(),
            staged: None,
            snapshot_trouble: Arc::default(),
        }
    }

    /// Starts the threads that write the log, write to the storage engine, and keep the time.
    fn threads(
        &self,
        wal: Wal<RealDisk>,
        work: Receiver<LogWork>,
        flush_jobs: Receiver<FlushJob>,
    ) -> Result<Vec<JoinHandle<()>>, OpenError> {
        let writer = LogWriter {
            wal,
            work,
            executor: Arc::clone(&self.executor),
            outbox: self.links.clone(),
            fatal: self.fatal.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let (flushed, time) = (Arc::clone(&self.executor), Arc::clone(&self.executor));
        let (of_log, of_engine) = (self.fatal.clone(), self.fatal.clone());
        let metrics = Arc::clone(&self.metrics);
        Ok(vec![
            thread("keelson-log", move || {
                of_log.guard("writing the log", || writer.run());
            })?,
            thread("keelson-flush", move || {
                let run = || flusher::run(&flush_jobs, &flushed, &of_engine, &metrics.commits);
                of_engine.guard("writing to the storage engine", run);
            })?,
            thread("keelson-time", move || time.run_timer())?,
        ])
    }

    /// What the peer port serves.
    fn peers(&self, stager: Stager, is_new: bool) -> Routes {
        let inbox = MemberInbox {
            executor: Arc::clone(&self.executor),
            shared: Arc::clone(&self.shared),
            seen_tokens: Arc::clone(&self.seen_tokens),
            is_new,
            tls: self.links.tls().clone(),
            hashing: Arc::new(tokio::sync::Semaphore::new(1)),
            fatal: self.fatal.clone(),
            _in_use: self.shared.jobs.token(),
        };
        let gate = CallerGate::new(self.shared.cluster, self.shared.member);
        let service = PeerService::new(gate, inbox, stager, self.links.key())
            .with_tls(self.links.tls().clone())
            .counting(Arc::clone(&self.metrics.received));
        crate::peer::routes(service)
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|error| OpenError::Internal(format!("starting a thread: {error}")))
}
