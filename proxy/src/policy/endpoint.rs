//! A member, as a proxy sees it: its address, how it stands, and connections to it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keelson_port::{Terminates, Termination, WakerSet};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::address::Address;
use crate::h2::Link;
use crate::http1::client::Connection;
use crate::policy::log_throttle::ChangeThrottle;

/// Idle connections kept to a member. As many as clients that ask at a time, on a busy host.
const IDLE_MAX: usize = 256;

/// Then an idle connection is closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// The weight of the latest of latencies, as a divisor.
const LATENCY_WEIGHT: u32 = 4;

/// The health of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers, and reports itself healthy.
    Healthy,
    /// It answers, but has no leader, or an alarm. It still serves reads, and is chosen when no member
    /// is healthy.
    Degraded,
    /// It did not answer.
    Down,
    /// Its URL leads back to this proxy, perhaps through others.
    SelfLoop,
    /// It has left the cluster.
    Removed,
}

impl Health {
    /// Whether a member in this state gets requests.
    pub(crate) fn is_usable(self) -> bool {
        matches!(self, Health::Healthy | Health::Degraded)
    }
}

/// One client URL of a member.
pub(crate) struct Endpoint {
    /// As the member advertises it.
    pub(crate) url: String,
    pub(crate) address: Address,
    health: watch::Sender<Health>,
    /// Rung when it is lost.
    wakers: WakerSet,
    record: Mutex<Record>,
    told: Mutex<ChangeThrottle>,
    idle: Mutex<Vec<Connection>>,
    pub(crate) link: Link,
    /// Somebody wonders whether it still answers.
    suspected: Notify,
    reached: AtomicBool,
}

/// What is known of its past.
#[derive(Default)]
struct Record {
    failed: Option<Instant>,
    /// A moving average of what a probe takes; how far away it is.
    latency: Option<Duration>,
}

impl Terminates for Endpoint {
    fn wakers(&self) -> &WakerSet {
        &self.wakers
    }

    /// Nothing can be hoped from it.
    fn is_terminated(&self) -> bool {
        !matches!(self.health(), Health::Healthy | Health::Degraded)
    }
}

impl Endpoint {
    /// Of whom nothing bad is known.
    pub(crate) fn new(url: String, address: Address) -> Endpoint {
        Endpoint {
            url,
            address,
            health: watch::Sender::new(Health::Healthy),
            wakers: WakerSet::default(),
            record: Mutex::default(),
            told: Mutex::new(ChangeThrottle::new(Health::Healthy)),
            idle: Mutex::default(),
            link: Link::default(),
            suspected: Notify::new(),
            reached: AtomicBool::new(false),
        }
    }

    pub(crate) fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Changes it, but for the better only when it is still a member. Returns whether it did.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        if health == Health::Down {
            self.record.lock().failed = Some(Instant::now());
        }
        if !matches!(health, Health::Healthy | Health::Degraded) {
            self.idle.lock().clear();
        }
        let changed = self.health.send_if_modified(|now| {
            let change = *now != health && *now != Health::Removed;
            if change {
                *now = health;
            }
            change
        });
        if changed && self.is_terminated() {
            self.wakers.wake_all();
        }
        changed
    }

    /// How it stands, when that is to be told.
    pub(crate) fn news(&self) -> Option<Health> {
        let health = self.health();
        self.told.lock().admits(health).then_some(health)
    }

    /// Returns when nothing can be hoped from it any more.
    pub(crate) fn lost(&self) -> Termination<&Endpoint> {
        Termination::of(self)
    }

    /// Whether it cannot be asked now.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_terminated()
    }

    /// How long ago it failed.
    pub(crate) fn out_for(&self) -> Duration {
        let failed = self.record.lock().failed;
        failed.map_or(Duration::MAX, |failed| failed.elapsed())
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.record.lock().latency
    }

    /// A probe took so long.
    pub(crate) fn answered_in(&self, took: Duration) {
        let mut record = self.record.lock();
        let average = record.latency.unwrap_or(took);
        let rest = average * (LATENCY_WEIGHT - 1);
        record.latency = Some((rest + took) / LATENCY_WEIGHT);
    }

    /// Asks for a probe at once.
    pub(crate) fn wake_health_check(&self) {
        self.suspected.notify_one();
    }

    /// Returns when there is a reason to look at it again: a suspicion, or another standing.
    pub(crate) async fn woken(&self) {
        let mut health = self.health.subscribe();
        tokio::select! {
            () = self.suspected.notified() => {}
            _ = health.changed() => {}
        }
    }

    /// A connection that was used before and is still there; for a read, likely is.
    pub(crate) fn idle_connection(&self, read: bool) -> Option<Connection> {
        loop {
            // The latest is the likeliest to live.
            let mut connection = self.idle.lock().pop()?;
            if read && connection.seems_idle() || connection.is_idle() {
                return Some(connection);
            }
        }
    }

    pub(crate) async fn new_connection(&self, timeout: Duration) -> io::Result<Connection> {
        let connection = Connection::open(&self.address, timeout).await?;
        self.note_reached();
        Ok(connection)
    }

    /// It was connected to.
    pub(crate) fn note_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Whether it ever was.
    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Keeps a connection whose answer is complete.
    pub(crate) fn give_back(&self, mut connection: Connection) {
        // Something has come that was not asked for, or its place is needed.
        if !connection.received.is_empty() || !connection.may_rest() {
            return;
        }
        connection.let_buffer_go();
        connection.since = Instant::now();
        let mut idle = self.idle.lock();
        let welcome = matches!(self.health(), Health::Healthy | Health::Degraded);
        if welcome && idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// Closes connections that nobody has needed for long.
    pub(crate) fn close_idle(&self) {
        let mut idle = self.idle.lock();
        idle.retain(|connection| connection.since.elapsed() < IDLE_TIME_MAX);
        idle.shrink_to_fit();
    }

    /// One connection died, so the others likely have.
    pub(crate) fn drop_idle(&self) {
        self.idle.lock().clear();
    }
}
