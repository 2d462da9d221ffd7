//! The leases as the log has determined them, and the times that clients were promised.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_core::state::ReadView;
use keelson_core::{Committed, Index, MemberId, Term, proposal};
use keelson_model::kv::{Kv, Lease};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{Command, LeaseExpire};
use prost::Message;

use super::DRIFT_MAX;
use crate::history::Request;
use crate::sim::world::World;

/// The first byte of keys that only holders of leases write.
const PREFIX: u8 = b'l';

/// Whether only holders of leases write the key.
pub(in crate::sim) fn is_attachable(key: &[u8]) -> bool {
    key.first() == Some(&PREFIX)
}

/// A lease: its id, and the entry that granted it.
pub(in crate::sim) type LeaseKey = (i64, u64);

/// The leases, by every committed entry.
#[derive(Default)]
pub(super) struct Agreed {
    /// The leases after the last entry.
    present: Vec<Lease>,
    /// The leases after each entry that concerns them.
    states: BTreeMap<u64, Vec<Lease>>,
    /// The entry that granted the last lease of each id.
    granted: BTreeMap<i64, u64>,
    /// Until when a client may rely on a lease, in true milliseconds.
    promised: BTreeMap<LeaseKey, u64>,
    /// When an expiry was committed.
    ended: BTreeMap<LeaseKey, u64>,
    pub(super) expired: u64,
}

impl Agreed {
    /// The last lease of that id.
    pub(super) fn last(&self, id: i64) -> Option<LeaseKey> {
        Some((id, *self.granted.get(&id)?))
    }

    /// Whether the lease exists after the last committed entry.
    pub(super) fn is_alive(&self, lease: LeaseKey) -> bool {
        let mut all = self.present.iter();
        all.any(|alive| (alive.id, alive.granted) == lease)
    }

    /// Until when a client may rely on a lease, in true milliseconds.
    pub(super) fn promised(&self, lease: LeaseKey) -> u64 {
        self.promised.get(&lease).copied().unwrap_or(0)
    }

    /// A client was answered that its request of that time gave the lease its whole time to live. A
    /// member's clock that is fast by the most makes the time shorter.
    pub(super) fn promise(&mut self, lease: LeaseKey, sent: u64, ttl: i64) -> Result<(), String> {
        let ttl_ms = ttl.unsigned_abs() * 1_000;
        let until = sent + ttl_ms * 1_000 / (1_000 + DRIFT_MAX) - 2;
        if let Some(ended) = self.ended.get(&lease).filter(|ended| **ended < until) {
            return Err(format!(
                "leases: {lease:?} was promised until {until}, and has expired at {ended}"
            ));
        }
        let promised = self.promised.entry(lease).or_default();
        *promised = until.max(*promised);
        Ok(())
    }

    /// An entry is committed, which the model has applied. An expiry must not come before a
    /// promised time.
    pub(super) fn commit(
        &mut self,
        now: u64,
        committed: &Committed,
        model: &Kv,
    ) -> Result<(), String> {
        let Some((_, command)) = proposal::decode(&committed.entry.data) else {
            return Ok(());
        };
        let (index, term) = (committed.entry.index, committed.entry.term);
        let Ok(Command { op: Some(op) }) = Command::decode(command) else {
            return Ok(());
        };
        let op = match op {
            Op::AsUser(of) => of.command.and_then(|command| command.op),
            op => Some(op),
        };
        let Some(op) = op else {
            return Ok(());
        };
        let granted = match &op {
            Op::LeaseGrant(request) => Some((request.id, index.0)),
            _ => None,
        };
        if !concerns_leases(&op) {
            return Ok(());
        }
        if let Op::LeaseExpire(expire) = &op
            && expire.term == term.0
        {
            self.check_expiry(now, expire)?;
        }
        self.present = model.leases();
        self.states.insert(index.0, self.present.clone());
        if let Some(lease) = granted.filter(|lease| self.is_alive(*lease)) {
            self.granted.insert(lease.0, lease.1);
        }
        Ok(())
    }

    fn check_expiry(&mut self, now: u64, expire: &LeaseExpire) -> Result<(), String> {
        for name in &expire.leases {
            let lease = (name.id, name.granted);
            if !self.is_alive(lease) {
                continue;
            }
            let promised = self.promised(lease);
            if now < promised {
                return Err(format!(
                    "leases: {lease:?} expires at {now}, and was promised until {promised}"
                ));
            }
            self.expired += 1;
            self.ended.insert(lease, now);
        }
        Ok(())
    }

    /// Compares a member's leases with those of the log after the entry that it has applied.
    fn compare(&self, id: MemberId, applied: Index, view: &ReadView) -> Result<(), String> {
        let Some(expected) = self.states.get(&applied.0) else {
            return Ok(());
        };
        let found = view.leases().into_iter().map(|lease| Lease {
            id: lease.id,
            granted: lease.granted,
            ttl: lease.ttl,
            remaining: lease.remaining,
            keys: view.lease_keys(lease.id),
        });
        let found: Vec<_> = found.collect();
        match found == *expected {
            true => Ok(()),
            false => Err(format!(
                "leases: {id} has after entry {applied}\n  {found:?}\ninstead of\n  {expected:?}"
            )),
        }
    }
}

/// Whether the command may change a lease, or a key that only holders of leases write.
fn concerns_leases(op: &Op) -> bool {
    match op {
        Op::LeaseGrant(_) | Op::LeaseRevoke(_) | Op::LeaseExpire(_) | Op::LeaseCheckpoint(_) => {
            true
        }
        Op::Put(put) => is_attachable(&put.key),
        Op::DeleteRange(delete) => is_attachable(&delete.key),
        Op::Txn(txn) => txn
            .compare
            .iter()
            .any(|compare| is_attachable(&compare.key)),
        _ => false,
    }
}

/// Applies a command to a model if it is one about leases, or a put.
pub(in crate::sim) fn replay(model: &mut Kv, index: Index, term: Term, op: Op) {
    match op {
        Op::Put(put) => drop(model.apply(&Request::Put(put))),
        Op::LeaseGrant(grant) => drop(model.grant(grant.id, index.0, grant.ttl)),
        Op::LeaseRevoke(revoke) => drop(model.revoke(revoke.id)),
        Op::LeaseExpire(expire) if expire.term == term.0 => {
            for name in expire.leases {
                model.expire(name.id, name.granted);
            }
        }
        Op::LeaseCheckpoint(checkpoint) if checkpoint.term == term.0 => {
            for left in checkpoint.leases {
                let name = left.lease.unwrap_or_default();
                model.checkpoint(name.id, name.granted, left.remaining_ttl);
            }
        }
        _ => {}
    }
}

impl World {
    /// An entry is committed for the first time, and in the model.
    pub(in crate::sim) fn lease_commits(&mut self, committed: &Committed) -> Result<(), String> {
        let now = self.clock.now_ms();
        match self.swarm.leases.clients {
            0 => Ok(()),
            _ => {
                let model = &self.watches.model;
                self.leases.agreed.commit(now, committed, model)
            }
        }
    }

    /// A member has applied an entry.
    pub(in crate::sim) fn compare_leases(&self, id: MemberId) -> Result<(), String> {
        let member = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        let Some(life) = member.filter(|_| 0 < self.swarm.leases.clients) else {
            return Ok(());
        };
        let (applied, view) = (life.applier.applied(), life.applier.view());
        self.leases.agreed.compare(id, applied, view)
    }
}

/// The key that a holder attaches.
pub(super) fn key_of(lease: i64, number: u64) -> Bytes {
    Bytes::from(format!("l{lease}-{number}"))
}
