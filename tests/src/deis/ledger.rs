//! The state that all components share, with their acknowledged writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// Violations kept as text; further ones are counted.
const REMEMBERED: usize = 40;

/// A write that was acknowledged.
#[derive(Clone, Debug)]
pub struct Acked {
    /// The value.
    pub value: String,
    /// Its modifiedIndex.
    pub index: u64,
}

/// A key that a component renews.
#[derive(Clone, Copy, Debug)]
pub struct Renewed {
    /// When the request of the last acknowledged renewal was sent: the TTL cannot have begun
    /// earlier.
    pub since: Instant,
    /// Its TTL in seconds.
    pub ttl: u64,
}

/// Shared by all components.
#[derive(Debug, Default)]
pub struct ComponentLedger {
    /// The last acknowledged write of each key; every key has one writer.
    acked: Mutex<BTreeMap<String, Acked>>,
    /// Writes of unknown outcome: key -> values.
    unknown: Mutex<BTreeMap<String, Vec<String>>>,
    /// In-order keys, by value.
    queued: Mutex<BTreeMap<String, Option<String>>>,
    renewed: Mutex<BTreeMap<String, Renewed>>,
    /// The holder of fleet's lease, and the time until which no other may hold it.
    lease: Mutex<Option<(String, Instant)>>,
    violations: Mutex<Vec<String>>,
    /// The number of violations.
    pub violated: AtomicU64,
    /// Answered requests.
    pub answered: AtomicU64,
    /// Requests to a member that was down.
    pub unheard: AtomicU64,
    /// Writes answered with 5xx, their outcome unknown.
    pub uncertain: AtomicU64,
    /// Events that watchers received.
    pub events: AtomicU64,
    /// Whether components are to end.
    pub stopping: AtomicBool,
    /// For each member: odd while it is down, or not known to be back.
    pub epochs: Vec<AtomicU64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl ComponentLedger {
    /// The ledger for `members` members, all up.
    pub fn new(members: usize) -> ComponentLedger {
        let epochs = (0..members).map(|_| AtomicU64::new(0)).collect();
        ComponentLedger {
            epochs,
            ..ComponentLedger::default()
        }
    }

    /// Records a violation.
    pub fn violation(&self, text: String) {
        self.violated.fetch_add(1, Ordering::Relaxed);
        let mut violations = lock(&self.violations);
        if violations.len() < REMEMBERED {
            violations.push(text);
        }
    }

    /// The first violations, one on each line.
    pub fn violations(&self) -> String {
        lock(&self.violations).join("\n")
    }

    /// Records an acknowledged write.
    pub fn ack(&self, key: &str, value: &str, index: u64) {
        let value = value.to_string();
        lock(&self.acked).insert(key.to_string(), Acked { value, index });
    }

    /// Records a write of unknown outcome.
    pub fn doubt(&self, key: &str, value: &str) {
        let mut unknown = lock(&self.unknown);
        unknown
            .entry(key.to_string())
            .or_default()
            .push(value.to_string());
    }

    /// Every key with its last acknowledged write, and the values that it may have instead.
    pub fn expected(&self) -> Vec<(String, Acked, Vec<String>)> {
        let unknown = lock(&self.unknown);
        let acked = lock(&self.acked).clone();
        let doubts = |key: &str| unknown.get(key).cloned().unwrap_or_default();
        acked
            .into_iter()
            .map(|(key, acked)| {
                let doubts = doubts(&key);
                (key, acked, doubts)
            })
            .collect()
    }

    /// Records a queued value, with its key if that is known.
    pub fn queue(&self, value: &str, key: Option<String>) {
        lock(&self.queued).insert(value.to_string(), key);
    }

    /// All values queued.
    pub fn queued(&self) -> BTreeMap<String, Option<String>> {
        lock(&self.queued).clone()
    }

    /// Records a renewal by a request sent at `since`.
    pub fn renew(&self, key: &str, since: Instant, ttl: u64) {
        lock(&self.renewed).insert(key.to_string(), Renewed { since, ttl });
    }

    /// Keys that a component renews.
    pub fn renewed(&self) -> BTreeMap<String, Renewed> {
        lock(&self.renewed).clone()
    }

    /// Records a holder of the lease until `until`; returns the other holder if its lease has not
    /// ended.
    pub fn hold(&self, who: &str, now: Instant, until: Instant) -> Option<String> {
        let mut lease = lock(&self.lease);
        let other = lease
            .as_ref()
            .filter(|(other, end)| other != who && now < *end);
        let other = other.map(|(other, _)| other.clone());
        *lease = Some((who.to_string(), until));
        other
    }

    /// Whether components continue.
    pub fn going(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }
}
