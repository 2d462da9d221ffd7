//! The handle to a member: start, readiness, serving and shutdown.

mod assemble;
#[cfg(test)]
mod fence_tests;
mod limits;
mod ready;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use keelson_core::node::Role;
use keelson_core::state::auth::{Access, Caller};
use keelson_core::{ClusterId, MemberId};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::limits::client_limits;
use crate::config::peer_tls::PeerTls;
use crate::defrag::Storage;
use crate::edge::v2::{LogLevel, V2};
use crate::edge::{CallMetrics, SeenTokens, Unread};
use crate::lease::{self, LessorInbox};
use crate::long_range::LongRanges;
use crate::member::fatal::{Fatal, FatalHandler, end_process};
use crate::member::waiters::Waiters;
use crate::member::worker::{MemberExecutor, WorkerEvent};
use crate::member::{founding, recover};
use crate::metrics::{BackupMetrics, Histogram, MemberMetrics};
use crate::open_error::OpenError;
use crate::peer::Links;
use crate::reads::ReadBatches;
use crate::shared::Shared;
use crate::space::Reason;
use crate::traces::Traces;
use crate::tree::{self, Hub};
use crate::watch::Watches;
use crate::{Config, Error};

/// A member of a cluster, or a cluster of one. Cheap to clone; every clone is the same member.
///
/// The member runs until [`Store::shutdown`], even when every handle is dropped. If the process
/// ends without it, nothing acknowledged is lost, but the other members notice only by timeouts.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    /// Whose requests this handle makes.
    pub(crate) caller: Arc<Caller>,
}

/// Sets the log level of the process.
pub type LogControl = Box<dyn Fn(LogLevel) + Send + Sync>;

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) shared: Arc<Shared>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) reads: Arc<ReadBatches>,
    pub(crate) long_ranges: LongRanges,
    pub(crate) seen_tokens: Arc<SeenTokens>,
    pub(crate) links: Links,
    /// Requests about leases on their way to the lessor.
    pub(crate) lessor: Arc<LessorInbox>,
    pub(crate) metrics: Arc<MemberMetrics>,
    /// The counts of gRPC calls.
    calls: CallMetrics,
    /// The spans of gRPC calls.
    pub(crate) traces: Option<Traces>,
    pub(crate) account: crate::usage::Account,
    pub(crate) executor: Arc<MemberExecutor>,
    /// The hub of the v2 tree's watchers.
    pub(crate) hub: Arc<Hub>,
    /// The watches of the v3 API.
    pub(crate) watches: Watches,
    /// The memory of the program's own calls that wait for a lock or an election.
    pub(crate) waits: Unread,
    /// Why this member's NOSPACE alarm is raised.
    pub(crate) alarm_reason: Reason,
    /// Where the engine is kept.
    pub(crate) storage: Storage,
    /// Bounds the snapshots that operators are sent at a time.
    pub(crate) snapshot_slots: Arc<tokio::sync::Semaphore>,
    /// The commit index that the log held when the member started.
    committed_at_start: keelson_core::Index,
    /// The member started with only the genesis state.
    is_new: bool,
    /// When the member was opened.
    pub(crate) started: SystemTime,
    /// Sets the log level, for clients of the v2 API.
    pub(crate) log_control: OnceLock<LogControl>,
    stopping: watch::Sender<bool>,
    /// `ready` has returned at least once.
    is_ready: AtomicBool,
    published: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Store {
    /// Starts a member from its data directory, or founds it. It opens its peer port if the
    /// configuration has one, and no client port. A later failure that the member cannot survive
    /// (a failed fsync, a full disk) ends the process.
    ///
    /// # Errors
    /// [`OpenError`] contains the cause and the remedy; nothing has been overwritten.
    pub async fn open(config: Config) -> Result<Store, OpenError> {
        Store::open_with(config, end_process()).await
    }

    /// [`Store::open`] with a handler for failures that the member cannot survive. The member
    /// answers no request after `fatal` was called.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(config: Config, fatal: FatalHandler) -> Result<Store, OpenError> {
        config.validate()?;
        let tls = PeerTls::new(&config.peer_tls)?;
        let flag = "listen-peer-urls";
        let urls = &config.listen_peer_urls;
        let listeners = crate::listen::bind_clients(urls, flag, tls.server.as_ref()).await?;
        let identifying = recover::identify(&config, &tls.client);
        let bootstrap = founding::answering(&config, &listeners, identifying).await?;
        let (config, parts) = tokio::task::spawn_blocking(move || {
            let parts = recover::recover(&config, bootstrap);
            parts.map(|parts| (config, parts))
        })
        .await
        .map_err(|error| OpenError::Internal(error.to_string()))??;
        let (hub, fan_out) = Hub::new();
        let fatal = Fatal::new(fatal);
        let (store, peers) = assemble::assemble(config, parts, tls.client, hub, fatal.clone())?;
        let limits = crate::edge::Limits {
            drain_timeout: Duration::from_millis(500),
            slots: keelson_port::Slots::of_peers(),
            ..crate::edge::Limits::default()
        };
        let mut stopping = store.inner.stopping.subscribe();
        let stopped = async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        let more = axum::Router::new();
        let serving =
            crate::edge::serve_peers(store.clone(), listeners, limits, peers, more, stopped);
        store.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the peer port ended");
            }
        });
        store.spawn(crate::publish::publish(store.clone()));
        store.spawn(crate::publish::agree_on_version(store.clone()));
        let grace = Duration::from_millis(store.config().v2_ttl_grace_ms);
        store.spawn(tree::expirer::run(store.clone(), grace));
        store.spawn(lease::lessor::run(store.clone()));
        store.spawn(crate::compaction::run(store.clone()));
        store.spawn(crate::space::watch(store.clone()));
        store.spawn(crate::space::warn(store.clone()));
        store.spawn(crate::defrag::at_start(store.clone()));
        store.spawn(crate::jwt::watch(store.clone()));
        store.spawn(fan_out);
        store.spawn(store.inner.watches.clone().fan_out(fatal));
        crate::corruption::begin(store).await
    }

    /// Whether the data directory holds a member already. If so, the flags for a new member are
    /// ignored.
    ///
    /// # Errors
    /// There is a log that cannot be read.
    pub fn is_there(config: &Config) -> Result<bool, OpenError> {
        recover::is_there(config)
    }

    /// A handle to the same member for requests of this caller. Those of a client are checked while
    /// auth is enabled; v2 requests have users of their own and are not checked here.
    pub fn acting_as(&self, caller: Caller) -> Store {
        Store {
            inner: Arc::clone(&self.inner),
            caller: Arc::new(caller),
        }
    }

    /// Checks a request of this handle's caller against the applied state.
    ///
    /// # Errors
    /// etcd's: no user, permission denied, a token from before a change of password.
    pub fn authorize(&self, access: Access<'_>) -> Result<(), Error> {
        Ok(self.view().authorize(&self.caller, access)?)
    }

    /// [`Store::authorize`]. A refusal is checked again with everything that was committed when it
    /// was called: the right may have been granted at another member.
    ///
    /// # Errors
    /// As [`Store::authorize`], whose refusal counts without a quorum: clients then log in again.
    pub(crate) async fn authorize_now(&self, access: Access<'_>) -> Result<(), Error> {
        let Err(refusal) = self.authorize(access) else {
            return Ok(());
        };
        self.read_index().await.map_err(|_| refusal)?;
        self.authorize(access)
    }

    /// Transfers leadership if this member is the leader and another voter is reachable. Call it
    /// before the client ports close, so that requests in flight can complete.
    pub async fn transfer_leadership(&self) {
        let mut soft_state = self.inner.shared.watch_soft_state();
        if soft_state.borrow().role != Role::Leader || !self.reaches_another_voter() {
            return;
        }
        let transfer = keelson_core::node::Input::TransferLeader(None);
        let _ = self.inner.executor.send(WorkerEvent::from(transfer));
        let me = self.member_id();
        let handoff = soft_state.wait_for(|now| now.leader != me && now.leader != MemberId::NONE);
        let patience = Duration::from_millis(self.inner.config.election_ms);
        match tokio::time::timeout(patience, handoff).await {
            Ok(_) => tracing::info!("leadership was handed over"),
            Err(_) => tracing::warn!("no member took leadership over in time"),
        }
    }

    /// Stops the member: transfers leadership, flushes the applied state, closes all resources.
    /// Waiting requests end with `Error::Stopped`.
    pub async fn shutdown(&self) {
        self.transfer_leadership().await;
        self.inner.stopping.send_replace(true);
        let links_closed = self.inner.links.close();
        let threads = std::mem::take(&mut *self.inner.threads.lock());
        let executor = Arc::clone(&self.inner.executor);
        let joined = tokio::task::spawn_blocking(move || {
            let (worker, left) = executor.stop();
            if let Some(worker) = worker {
                worker.close(left);
            }
            for thread in threads {
                let _ = thread.join();
            }
        });
        let defragmenting = Arc::clone(&self.inner.storage.defragmenting).lock_owned();
        let traced = async {
            if let Some(traces) = &self.inner.traces {
                traces.end().await;
            }
        };
        let ended = futures_util::future::join3(joined, defragmenting, traced);
        // Its lock is held to the end: a copy must not switch databases after that.
        let _ended = tokio::time::timeout(Duration::from_secs(6), ended).await;
        self.inner.waiters.close_all();
        self.inner.hub.cut_all();
        self.inner.reads.close_all();
        self.inner.lessor.close();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for task in &tasks {
            task.abort();
        }
        // An aborted task holds the peer port and the store until it is dropped. A program that
        // opens the directory again needs both.
        let ended = futures_util::future::join(futures_util::future::join_all(tasks), links_closed);
        let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
        self.inner.shared.jobs.stop().await;
    }

    /// Serves clients on these listeners until `shutdown`, and then, within bounds, until the
    /// requests in flight are answered. Until the member is `ready`, only probes (`/health`,
    /// `/livez`, `/readyz`, `/debug/vars`) are answered; other requests wait.
    ///
    /// # Errors
    /// It ends early only through a bug.
    pub async fn serve(
        &self,
        listeners: Vec<impl Into<crate::edge::Listener>>,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let limits = client_limits(&self.inner.config);
        let gate = crate::edge::Gate::default();
        let has_v2 = self.config().enable_v2;
        let calls = || self.inner.calls.clone();
        let rates = crate::edge::Rates::new(self.config().rate_limits, calls());
        let more = |drain: &crate::edge::Drain| crate::edge::More {
            interceptor: has_v2.then(|| V2::limited(self.clone(), drain, calls(), rates.clone())),
            routes: Default::default(),
            router: Default::default(),
            gate: Some(gate.clone()),
            unread: Default::default(),
            calls: calls(),
            tracer: self.inner.traces.as_ref().map(Traces::tracer),
            rates,
        };
        let serving = crate::edge::serve_clients(self.clone(), listeners, limits, more, shutdown);
        let opening = async {
            self.ready().await;
            gate.open();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = serving => served,
            () = opening => unreachable!("it is pending"),
        }
    }

    /// Serves `/metrics` and the probes on these listeners until `shutdown`.
    ///
    /// # Errors
    /// It ends early only through a bug.
    pub async fn serve_metrics(
        &self,
        listeners: Vec<impl Into<crate::edge::Listener>>,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let limits = client_limits(&self.inner.config);
        let calls = self.inner.calls.clone();
        crate::edge::serve_metrics(self.clone(), calls, listeners, limits, shutdown).await
    }

    /// Registers the function that sets the log level for the v2 API (`/config/local/log`). Only
    /// the first call has an effect.
    pub fn set_log_control(&self, control: LogControl) {
        let _ = self.inner.log_control.set(control);
    }

    /// What `/metrics` shows of snapshots that the program saves at an interval.
    pub fn backup_metrics(&self) -> &BackupMetrics {
        &self.inner.metrics.backups
    }

    /// This member's id.
    pub fn member_id(&self) -> MemberId {
        self.inner.shared.member
    }

    /// The cluster id.
    pub fn cluster_id(&self) -> ClusterId {
        self.inner.shared.cluster
    }

    /// The configuration of the member.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The durations of the log's fsyncs.
    pub fn sync_durations(&self) -> &Histogram {
        &self.inner.metrics.syncs
    }

    pub(crate) fn note_published(&self) {
        self.inner.published.send_replace(true);
    }

    pub(crate) fn watch_stopping(&self) -> watch::Receiver<bool> {
        self.inner.stopping.subscribe()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.inner.stopping.borrow()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.lock().push(tokio::spawn(task));
    }
}
