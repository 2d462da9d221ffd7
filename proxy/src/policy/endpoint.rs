//! A client URL of a member: its address, its health, and connections to it.

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
use crate::policy::change_throttle::ChangeThrottle;

/// Idle connections kept to a member: as many as concurrent requests of a busy host.
const IDLE_MAX: usize = 256;

/// An idle connection is closed after this time.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// The weight of the latest latency in the average, as a divisor.
const LATENCY_WEIGHT: u32 = 4;

/// The health of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers, and reports itself healthy.
    Healthy,
    /// It answers, but has no leader, or an alarm. It still serves reads, and is chosen when no
    /// member is healthy.
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

/// How a member answers requests for the progress of watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchProgress {
    /// After the events up to the revision that it states.
    InOrder,
    /// Perhaps before them, as etcd before 3.4.25 and 3.5.8 (etcd-io/etcd#15220).
    Ahead,
}

impl WatchProgress {
    /// That of a member with this answer at `/version`; `None`: it is none of etcd's.
    pub(crate) fn of_version(answer: &[u8]) -> Option<WatchProgress> {
        #[derive(serde::Deserialize)]
        struct Versions {
            etcdserver: String,
        }
        let versions: Versions = serde_json::from_slice(answer).ok()?;
        let mut parts = versions.etcdserver.split(['.', '-', '+']);
        let mut number = || parts.next()?.parse::<u32>().ok();
        let version = (number()?, number()?, number()?);
        Some(match version {
            (3, 4, patch) if 25 <= patch => WatchProgress::InOrder,
            (3, 5, patch) if 8 <= patch => WatchProgress::InOrder,
            later if (3, 6, 0) <= later => WatchProgress::InOrder,
            _ => WatchProgress::Ahead,
        })
    }
}

/// One client URL of a member.
pub(crate) struct Endpoint {
    /// As the member advertises it.
    pub(crate) url: String,
    pub(crate) address: Address,
    health: watch::Sender<Health>,
    /// Of futures that wait for it to be lost.
    wakers: WakerSet,
    record: Mutex<Record>,
    logged: Mutex<ChangeThrottle<Health>>,
    idle: Mutex<Vec<Connection>>,
    pub(crate) link: Link,
    /// Requests a health check.
    wake: Notify,
    reached: AtomicBool,
}

/// The results of requests and probes.
#[derive(Default)]
struct Record {
    /// The time of the latest failure.
    failed: Option<Instant>,
    /// A moving average of the duration of a probe.
    latency: Option<Duration>,
    progress: Option<WatchProgress>,
}

impl Terminates for Endpoint {
    fn wakers(&self) -> &WakerSet {
        &self.wakers
    }

    fn is_terminated(&self) -> bool {
        !self.health().is_usable()
    }
}

impl Endpoint {
    /// It counts as healthy until a request or a health check fails.
    pub(crate) fn new(url: String, address: Address) -> Endpoint {
        Endpoint {
            url,
            address,
            health: watch::Sender::new(Health::Healthy),
            wakers: WakerSet::default(),
            record: Mutex::default(),
            logged: Mutex::new(ChangeThrottle::new(Health::Healthy)),
            idle: Mutex::default(),
            link: Link::default(),
            wake: Notify::new(),
            reached: AtomicBool::new(false),
        }
    }

    pub(crate) fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Changes the health, unless the member has been removed. Returns whether it has changed.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        if health == Health::Down {
            let mut record = self.record.lock();
            record.failed = Some(Instant::now());
            // It may start again with another version.
            record.progress = None;
        }
        if !health.is_usable() {
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

    /// The health, when it is to be logged.
    pub(crate) fn health_to_log(&self) -> Option<Health> {
        let health = self.health();
        self.logged.lock().admits(health).then_some(health)
    }

    /// Returns when the member is not usable.
    pub(crate) fn lost(&self) -> Termination<&Endpoint> {
        Termination::of(self)
    }

    /// Whether the member is not usable.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_terminated()
    }

    /// The time since the latest failure.
    pub(crate) fn down_for(&self) -> Duration {
        let failed = self.record.lock().failed;
        failed.map_or(Duration::MAX, |failed| failed.elapsed())
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.record.lock().latency
    }

    /// How the member states the progress of watches, if its version is known.
    pub(crate) fn progress(&self) -> Option<WatchProgress> {
        self.record.lock().progress
    }

    /// Records the member's version.
    pub(crate) fn set_progress(&self, progress: Option<WatchProgress>) {
        self.record.lock().progress = progress;
    }

    /// Records the duration of a probe.
    pub(crate) fn answered_in(&self, took: Duration) {
        let mut record = self.record.lock();
        let average = record.latency.unwrap_or(took);
        let rest = average * (LATENCY_WEIGHT - 1);
        record.latency = Some((rest + took) / LATENCY_WEIGHT);
    }

    /// Requests a health check without delay.
    pub(crate) fn wake_health_check(&self) {
        self.wake.notify_one();
    }

    /// Returns when a health check is requested, or the health has changed.
    pub(crate) async fn woken(&self) {
        let mut health = self.health.subscribe();
        tokio::select! {
            () = self.wake.notified() => {}
            _ = health.changed() => {}
        }
    }

    /// A connection from the pool that is still open. For a read, the check is cheaper and less
    /// certain.
    pub(crate) fn idle_connection(&self, read: bool) -> Option<Connection> {
        loop {
            // The one used last is the most likely to be open.
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

    /// A connection to it has been established.
    pub(crate) fn note_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Whether a connection to it was ever established.
    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Returns a connection to the pool once its answer is complete.
    pub(crate) fn give_back(&self, mut connection: Connection) {
        // Bytes have arrived that belong to no answer, or a request waits for the permit.
        if !connection.received.is_empty() || !connection.may_idle() {
            return;
        }
        connection.free_buffer();
        connection.since = Instant::now();
        let mut idle = self.idle.lock();
        if self.health().is_usable() && idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// Closes connections that have been idle for long.
    pub(crate) fn close_idle(&self) {
        let mut idle = self.idle.lock();
        idle.retain(|connection| connection.since.elapsed() < IDLE_TIME_MAX);
        idle.shrink_to_fit();
    }

    /// Closes all idle connections: one was found dead, so the others probably are.
    pub(crate) fn drop_idle(&self) {
        self.idle.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_how_progress_is_stated() {
        let of = |version: &str| {
            let answer = format!(r#"{{"etcdserver":"{version}","etcdcluster":"3.4.0"}}"#);
            WatchProgress::of_version(answer.as_bytes())
        };
        for version in [
            "3.4.25",
            "3.5.8",
            "3.5.21",
            "3.6.0",
            "3.7.0-alpha.0",
            "4.0.0",
        ] {
            assert_eq!(of(version), Some(WatchProgress::InOrder), "{version}");
        }
        for version in ["2.3.8", "3.3.27", "3.4.23", "3.5.0-rc.1", "3.5.7"] {
            assert_eq!(of(version), Some(WatchProgress::Ahead), "{version}");
        }
        for version in ["", "3.5", "three.five.nine", "3.5.-9"] {
            assert_eq!(of(version), None, "{version}");
        }
        assert_eq!(WatchProgress::of_version(b"etcd 3.5.21"), None);
    }
}
