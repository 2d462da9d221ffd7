//! The leases of a leader, with their times.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::internal::{LeaseName, LeaseRemaining};

use crate::Millis;
use crate::state::{Lease, LeaseChange, ReadView};

/// Remaining times of leases that live longer than this, in milliseconds, are recorded, each at
/// this interval after its grant or last renewal. Both are etcd's.
pub(super) const CHECKPOINT_MS: u64 = 300_000;

/// The most leases in one entry.
pub(super) const LEASES_MAX: usize = 1_000;

/// The most attached keys of the leases in one entry, so that no write waits long for an expiry.
/// A single lease may have more.
const KEYS_MAX: usize = 4_096;

/// The time of a lease on this leader's clock.
#[derive(Clone, Copy, Debug)]
struct Timed {
    granted: u64,
    ttl: i64,
    expires: Millis,
    /// When its remaining time is to be recorded; none for a short lease.
    checkpoint_at: Option<Millis>,
    /// The state has a remaining time to live, or may have one soon: a later leader could begin
    /// with less than the whole time to live.
    is_checkpointed: bool,
    /// Its expiry was proposed. It cannot be renewed, since that entry may be applied at any time.
    is_expiring: bool,
}

/// The outcome of a renewal in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// There is no such lease.
    Absent,
    /// Its expiry was proposed.
    Expiring,
    /// It is renewed here, but its remaining time in the state must be cleared.
    Checkpointed(u64),
    /// The lease of that grant is renewed.
    Renewed(u64),
}

/// This member's leadership in one term, from the time when every entry of earlier terms was
/// applied.
#[derive(Clone, Debug)]
pub(super) struct LeaseTenure {
    /// Nothing expires before.
    hold_until: Millis,
    leases: BTreeMap<i64, Timed>,
    by_expiry: BTreeSet<(Millis, i64)>,
    by_checkpoint: BTreeSet<(Millis, i64)>,
}

impl LeaseTenure {
    /// Every lease gets all of its time to live, or what was left of it at its last checkpoint, and
    /// the extension.
    pub(super) fn begin(now: Millis, leases: Vec<Lease>, extension_ms: u64) -> LeaseTenure {
        let mut tenure = LeaseTenure {
            hold_until: Millis(0),
            leases: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            by_checkpoint: BTreeSet::new(),
        };
        for lease in leases {
            tenure.add(now, lease, extension_ms);
        }
        tenure
    }

    fn add(&mut self, now: Millis, lease: Lease, extension_ms: u64) {
        let left = match lease.remaining {
            0 => lease.ttl,
            remaining => remaining,
        };
        let timed = Timed {
            granted: lease.granted,
            ttl: lease.ttl,
            expires: after(now, left, extension_ms),
            checkpoint_at: checkpoint_at(now, lease.ttl),
            is_checkpointed: lease.remaining != 0,
            is_expiring: false,
        };
        self.insert(lease.id, timed);
    }

    fn insert(&mut self, id: i64, timed: Timed) {
        self.remove(id);
        self.by_expiry.insert((timed.expires, id));
        if let Some(at) = timed.checkpoint_at {
            self.by_checkpoint.insert((at, id));
        }
        self.leases.insert(id, timed);
    }

    fn remove(&mut self, id: i64) -> Option<Timed> {
        let timed = self.leases.remove(&id)?;
        self.by_expiry.remove(&(timed.expires, id));
        if let Some(at) = timed.checkpoint_at {
            self.by_checkpoint.remove(&(at, id));
        }
        Some(timed)
    }

    /// Records what an entry did. A change that the tenure's beginning included already, or that
    /// concerns an earlier lease of that id, changes nothing.
    pub(super) fn note(&mut self, now: Millis, change: LeaseChange) {
        match change {
            LeaseChange::Granted(lease) => self.see(now, lease),
            LeaseChange::Gone(lease) => {
                let known = self.leases.get(&lease.id);
                if known.is_some_and(|known| known.granted <= lease.granted) {
                    self.remove(lease.id);
                }
            }
            // Proposed by this tenure, which has noted it then.
            LeaseChange::Checkpointed(_) => {}
        }
    }

    /// Adds a lease of the state, unless it is there.
    pub(super) fn see(&mut self, now: Millis, lease: Lease) {
        let known = self.leases.get(&lease.id);
        if known.is_none_or(|known| known.granted < lease.granted) {
            self.add(now, lease, 0);
        }
    }

    /// Compares the leases with those of the state. Returns those that are gone.
    pub(super) fn compare(&mut self, now: Millis, leases: Vec<Lease>) -> Vec<i64> {
        let present: BTreeMap<_, _> = leases
            .iter()
            .map(|lease| (lease.id, lease.granted))
            .collect();
        let is_gone =
            |(id, timed): (&i64, &Timed)| (present.get(id) != Some(&timed.granted)).then_some(*id);
        let gone: Vec<_> = self.leases.iter().filter_map(is_gone).collect();
        for id in &gone {
            self.remove(*id);
        }
        for lease in leases {
            self.see(now, lease);
        }
        gone
    }

    /// Whether there is no lease.
    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Renews a lease in memory. Until a round of heartbeats has confirmed the leadership after
    /// this, no client may be answered.
    pub(super) fn renew(&mut self, now: Millis, id: i64) -> Renewal {
        let Some(timed) = self.leases.get(&id).copied() else {
            return Renewal::Absent;
        };
        if timed.is_expiring {
            return Renewal::Expiring;
        }
        self.insert(
            id,
            Timed {
                expires: timed.expires.max(after(now, timed.ttl, 0)),
                checkpoint_at: checkpoint_at(now, timed.ttl),
                ..timed
            },
        );
        match timed.is_checkpointed {
            true => Renewal::Checkpointed(timed.granted),
            false => Renewal::Renewed(timed.granted),
        }
    }

    /// Whether that grant's lease is alive and not expiring.
    pub(super) fn is_alive(&self, id: i64, granted: u64) -> bool {
        let timed = self.leases.get(&id);
        timed.is_some_and(|timed| timed.granted == granted && !timed.is_expiring)
    }

    /// The time that is left to a lease, in whole seconds.
    pub(super) fn left(&self, now: Millis, id: i64) -> i64 {
        let expires = self
            .leases
            .get(&id)
            .map_or(Millis(0), |timed| timed.expires);
        let left_ms = expires.0.saturating_sub(now.0);
        i64::try_from(left_ms / 1_000).unwrap_or(i64::MAX)
    }

    /// Puts off every expiry.
    pub(super) fn hold(&mut self, until: Millis) {
        self.hold_until = self.hold_until.max(until);
    }

    /// The leases of the next entry that expires some; empty if none is due. They cannot be renewed
    /// any more.
    pub(super) fn take_due(&mut self, now: Millis, view: &ReadView) -> Vec<LeaseName> {
        let (mut names, mut keys) = (Vec::new(), 0);
        while let Some(&(expires, id)) = self.by_expiry.first()
            && expires <= now
            && self.hold_until <= now
            && names.len() < LEASES_MAX
        {
            let lease = view.lease(id);
            keys += lease.map_or(0, |lease| lease.keys);
            if KEYS_MAX < keys && !names.is_empty() {
                break;
            }
            self.by_expiry.pop_first();
            if let Some(timed) = self.leases.get_mut(&id) {
                timed.is_expiring = true;
                let granted = timed.granted;
                names.push(LeaseName { id, granted });
            }
        }
        names
    }

    /// The outcome of a proposal is unknown: leases that are still there are due again at that
    /// time.
    pub(super) fn put_back(&mut self, names: Vec<LeaseName>, at: Millis) {
        for LeaseName { id, granted } in names {
            if let Some(timed) = self.leases.get_mut(&id)
                && timed.granted == granted
            {
                timed.expires = at;
                self.by_expiry.insert((at, id));
            }
        }
    }

    /// The remaining times that are due to be recorded, of one entry.
    pub(super) fn take_checkpoints(&mut self, now: Millis) -> Vec<LeaseRemaining> {
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.by_checkpoint.first()
            && at <= now
            && due.len() < LEASES_MAX
        {
            self.by_checkpoint.pop_first();
            let Some(timed) = self.leases.get_mut(&id) else {
                continue;
            };
            timed.checkpoint_at = checkpoint_at(now, timed.ttl);
            if let Some(at) = timed.checkpoint_at {
                self.by_checkpoint.insert((at, id));
            }
            if !timed.is_expiring {
                timed.is_checkpointed = true;
                let left_ms = timed.expires.0.saturating_sub(now.0);
                due.push(remaining(id, timed.granted, left_ms.div_ceil(1_000).max(1)));
            }
        }
        due
    }

    /// The entry's part that clears the remaining time of a lease.
    pub(super) fn clearing(&self, id: i64) -> Option<LeaseRemaining> {
        let timed = self.leases.get(&id)?;
        Some(remaining(id, timed.granted, 0))
    }

    /// An entry that cleared the remaining time is applied, and no other was proposed since.
    pub(super) fn cleared(&mut self, name: &LeaseName) {
        if let Some(timed) = self.leases.get_mut(&name.id)
            && timed.granted == name.granted
        {
            timed.is_checkpointed = false;
        }
    }

    /// When the first lease expires, and when the first remaining time is due.
    pub(super) fn wake_at(&self) -> (Millis, Millis) {
        let never = Millis(u64::MAX);
        let first = |times: &BTreeSet<(Millis, i64)>| times.first().map_or(never, |(at, _)| *at);
        let expiry = first(&self.by_expiry).max(self.hold_until);
        (expiry, first(&self.by_checkpoint))
    }
}

fn after(now: Millis, seconds: i64, more_ms: u64) -> Millis {
    let ms = seconds.unsigned_abs().saturating_mul(1_000);
    Millis(now.0.saturating_add(ms).saturating_add(more_ms))
}

fn checkpoint_at(now: Millis, ttl: i64) -> Option<Millis> {
    let is_long = CHECKPOINT_MS < ttl.unsigned_abs().saturating_mul(1_000);
    is_long.then(|| Millis(now.0 + CHECKPOINT_MS))
}

fn remaining(id: i64, granted: u64, seconds: u64) -> LeaseRemaining {
    LeaseRemaining {
        lease: Some(LeaseName { id, granted }),
        remaining_ttl: i64::try_from(seconds).unwrap_or(i64::MAX),
    }
}
