//! A watch of the proxy whose responses many clients receive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::time::{self, Instant, MissedTickBehavior};

use super::SharedWatch;
use crate::context::Context;
use crate::grpc::events::{EventReader, Received};
use crate::grpc::requests;
use crate::h2::call::Call;
use crate::h2::owner::ClientSession;
use crate::policy::resumption::{Create, StreamRequest};
use crate::policy::shared_log::{Next, SharedLog, SharedResponse};

/// The log of a hub. A client that is further behind leaves.
const LOG_BYTES_MAX: usize = 1024 * 1024;

/// The interval of checks, each with a request for the member's progress.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The time for a member to create the watch and to state its progress, and how long the hub may
/// have no client.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// The hub of equal watches. Its own stream is a call without a client, which is continued on
/// another member like any other.
pub(in crate::h2) struct Hub {
    watch: SharedWatch,
    reader: Mutex<EventReader>,
    /// `None` until the watch is created.
    log: Mutex<Option<SharedLog<Bytes>>>,
    clients: Mutex<Clients>,
    /// Counts responses that members did not have to send.
    coalesced: Counter,
    ended: AtomicBool,
    /// The log has grown.
    grown: AtomicBool,
    /// A client has joined.
    joined: AtomicBool,
    /// The responses of the watch are too large.
    large: AtomicBool,
    /// The log has grown, a client has read, or the hub has ended.
    wake: Notify,
}

#[derive(Default)]
struct Clients {
    /// Each with its number of watches.
    all: HashMap<usize, (Weak<Call>, usize)>,
    /// Those that have read since they were served.
    ready: HashMap<usize, Weak<Call>>,
    /// The sum of the watches.
    watches: usize,
    /// All have left, and none may join.
    closed: bool,
}

impl Hub {
    /// Begins the watch with the fields of a client's call.
    pub(super) fn begin(proxy: &Arc<Context>, like: &Arc<Call>, watch: SharedWatch) -> Arc<Hub> {
        let coalesced = proxy.metrics.coalesced.clone();
        let hub = Arc::new(Hub::new(watch.clone(), coalesced));
        // No stream of this session exists, so nothing is ever written to it.
        let session = Arc::new(ClientSession::new([0, 0]));
        let of = Arc::downgrade(&hub);
        let upstream = Call::of_hub(proxy, &session, like, watch.fields, of);
        let mut create = BytesMut::new();
        let request = StreamRequest::Create(Create {
            encoded: watch.form[..].into(),
            watch_id: 0,
            start_revision: 0,
        });
        requests::put_watch_request(&mut create, &request);
        upstream.begin(false);
        upstream.data(&create, false);
        tokio::spawn(Arc::clone(&hub).run(upstream));
        hub
    }

    /// A hub without a stream.
    fn new(watch: SharedWatch, coalesced: Counter) -> Hub {
        Hub {
            watch,
            reader: Mutex::default(),
            log: Mutex::default(),
            clients: Mutex::default(),
            coalesced,
            ended: AtomicBool::new(false),
            grown: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            large: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Sends clients what is new, until the end.
    async fn run(self: Arc<Hub>, upstream: Arc<Call>) {
        let mut checks = time::interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Since when an answer of the member is awaited.
        let mut waits = Some(Instant::now());
        let mut unused = Some(Instant::now());
        while self.is_open() {
            tokio::select! {
                () = self.wake.notified() => self.serve(false).await,
                _ = checks.tick() => {
                    let now = Instant::now();
                    unused = (!self.has_clients()).then_some(unused.unwrap_or(now));
                    waits = self.check(&upstream, waits);
                    let late = |since: Instant| ANSWER_TIME_MAX <= since.elapsed();
                    if [waits, unused].into_iter().flatten().any(late) {
                        self.end();
                    }
                    self.serve(true).await;
                }
            }
        }
        for call in self.close() {
            call.leave_hubs();
            tokio::task::consume_budget().await;
        }
        upstream.cancel();
    }

    /// Requests the member's progress once the last answer has come. Returns since when an answer
    /// is awaited.
    fn check(&self, upstream: &Call, waits: Option<Instant>) -> Option<Instant> {
        let answered = self.is_live() && upstream.has_progress();
        if answered && upstream.request_progress() {
            return Some(Instant::now());
        }
        // Without a member now, or without its answer.
        Some(waits.unwrap_or_else(Instant::now))
    }

    /// `all`: the positions of all clients are updated; else those are served that may receive
    /// more.
    async fn serve(self: &Arc<Hub>, all: bool) {
        let grown = self.grown.swap(false, Ordering::AcqRel);
        for call in self.clients(all || grown) {
            call.receive_shared(self, all);
            // There may be thousands.
            tokio::task::consume_budget().await;
        }
    }

    fn clients(&self, all: bool) -> Vec<Arc<Call>> {
        let mut clients = self.clients.lock();
        let ready = std::mem::take(&mut clients.ready);
        match all {
            true => clients
                .all
                .values()
                .filter_map(|(call, _)| call.upgrade())
                .collect(),
            false => ready.values().filter_map(Weak::upgrade).collect(),
        }
    }

    /// No client may join any more. Returns those that have.
    fn close(&self) -> Vec<Arc<Call>> {
        self.clients.lock().closed = true;
        self.clients(true)
    }

    /// A member has sent data.
    pub(in crate::h2) fn receive(&self, data: &[u8]) {
        let mut reader = self.reader.lock();
        if !self.is_open() {
            return;
        }
        reader.receive(data);
        loop {
            match reader.next() {
                Ok(Some(received)) => self.add(received),
                Ok(None) => break,
                Err(_) => {
                    self.end();
                    break;
                }
            }
        }
        self.grown.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn add(&self, received: Received) {
        let mut log = self.log.lock();
        let response = &received.response;
        match (&mut *log, received.shared) {
            // Refused, or compacted: its clients receive the reason from their own watches.
            _ if response.canceled => self.end(),
            (None, _) if response.created => {
                *log = Some(SharedLog::new(response.header.revision, LOG_BYTES_MAX));
            }
            (None, _) => self.end(),
            (Some(_), _) if response.created => self.end(),
            (Some(_), None) => {
                self.large.store(true, Ordering::Release);
                self.end();
            }
            (Some(log), Some(shared)) => {
                log.push(shared, received.bytes);
                let others = self.watches().saturating_sub(1);
                self.coalesced.inc_by(others as u64);
            }
        }
    }

    /// The member has sent all events up to this revision. An ended hub has not received them.
    pub(in crate::h2) fn note_reached(&self, revision: i64) {
        if let Some(log) = &mut *self.log.lock()
            && self.is_open()
        {
            log.note_reached(revision);
        }
    }

    /// The hub's clients leave.
    pub(in crate::h2) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Whether the watch is created, and clients may join.
    pub(super) fn is_live(&self) -> bool {
        self.is_open() && self.log.lock().is_some()
    }

    /// Whether a client has ever joined.
    pub(super) fn was_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Whether the watch is not to be shared for some time.
    pub(super) fn was_unusable(&self) -> bool {
        !self.was_joined() || self.large.load(Ordering::Acquire)
    }

    pub(super) fn has_clients(&self) -> bool {
        !self.clients.lock().all.is_empty()
    }

    /// The number of clients' watches that it serves.
    pub(super) fn watches(&self) -> usize {
        self.clients.lock().watches
    }

    /// Whether it serves this watch.
    pub(in crate::h2) fn is_of(&self, watch: &SharedWatch) -> bool {
        self.watch == *watch
    }

    /// The cursor of a client that has all events before `next`, if the hub has the others.
    pub(in crate::h2) fn cursor(&self, next: i64) -> Option<u64> {
        if !self.is_open() {
            return None;
        }
        self.log.lock().as_ref()?.cursor(next)
    }

    /// What a client receives next.
    pub(in crate::h2) fn take(&self, cursor: &mut u64, next: i64) -> Next<SharedResponse<Bytes>> {
        match &*self.log.lock() {
            Some(log) if self.is_open() => log.take(cursor, next),
            _ => Next::Gone,
        }
    }

    /// The first revision that a client lacks, which had all events before `next` when it received
    /// the latest one. It is valid after the end of the hub, too.
    pub(in crate::h2) fn position(&self, cursor: u64, next: i64) -> i64 {
        let log = self.log.lock();
        log.as_ref().map_or(next, |log| log.position(cursor, next))
    }

    /// A client joins with so many watches. Returns `false` if the hub has ended: it sends the
    /// client nothing, not even that.
    #[must_use]
    pub(in crate::h2) fn add_client(&self, call: &Arc<Call>, watches: usize) -> bool {
        let key = Arc::as_ptr(call) as usize;
        let mut clients = self.clients.lock();
        if clients.closed {
            return false;
        }
        clients.all.insert(key, (Arc::downgrade(call), watches));
        clients.ready.insert(key, Arc::downgrade(call));
        clients.watches += watches;
        self.joined.store(true, Ordering::Release);
        self.wake.notify_one();
        true
    }

    /// A client leaves.
    pub(in crate::h2) fn remove_client(&self, call: &Call) {
        let key = std::ptr::from_ref(call) as usize;
        let mut clients = self.clients.lock();
        if let Some((_, watches)) = clients.all.remove(&key) {
            clients.watches -= watches;
        }
        clients.ready.remove(&key);
    }

    /// A client has room for more.
    pub(in crate::h2) fn wake(&self, call: &Arc<Call>) {
        let key = Arc::as_ptr(call) as usize;
        let mut clients = self.clients.lock();
        if clients.all.contains_key(&key) {
            clients.ready.insert(key, Arc::downgrade(call));
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
pub(in crate::h2) mod tests;
