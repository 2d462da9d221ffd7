//! What the lessor does on the leader: renewals, the reads that confirm them, and proposals.

use keelson_proto::internal::command::Op;
use keelson_proto::internal::{LeaseCheckpoint, LeaseExpire, LeaseName, LeaseRemaining};

use super::calls::Call;
use super::proposal::{Proposal, Unanswered};
use super::tenure::{LEASES_MAX, LeaseTenure, Renewal};
use super::{LeaseOutcome, Lessor, LessorEffects};
use crate::state::{LeaseChange, ReadView};
use crate::{Millis, Term};

/// The pause after a failed request, in milliseconds.
pub(super) const RETRY_MS: u64 = 100;

/// The pause after a failed expiry, in milliseconds; etcd's interval. Each attempt may be an entry
/// of the log, for example while the CORRUPT alarm refuses it.
pub(super) const EXPIRE_AGAIN_MS: u64 = 500;

/// The minimum time between two entries that expire leases, in milliseconds, unless more are due
/// than fit into one.
pub(super) const PAUSE_MS: u64 = 50;

impl Lessor {
    pub(super) fn note_changes(&mut self, now: Millis, changes: &[LeaseChange]) {
        let Some(tenure) = &mut self.tenure else {
            // The read before the tenure includes them.
            return;
        };
        for change in changes {
            tenure.note(now, *change);
            if let LeaseChange::Gone(lease) = change {
                self.calls.confirm_held(lease.id);
            }
        }
    }

    /// Compares the leases with those of the state.
    pub(super) fn note_missed(&mut self, now: Millis, view: &ReadView) {
        let Some(tenure) = &mut self.tenure else {
            return;
        };
        let gone = tenure.compare(now, view.leases());
        for id in gone {
            self.calls.confirm_held(id);
        }
    }

    pub(super) fn done(
        &mut self,
        now: Millis,
        view: &ReadView,
        number: u64,
        effects: &mut LessorEffects,
    ) {
        if self.begin.take(number).is_some() {
            self.tenure = Some(LeaseTenure::begin(now, view.leases(), self.extension_ms));
        } else if let Some(names) = self.expiry.take(number) {
            self.expiry.begin_at = match names.len() < LEASES_MAX {
                true => Millis(now.0 + PAUSE_MS),
                false => now,
            };
        } else if let Some(leases) = self.checkpoint.take(number) {
            self.checkpointed(&leases);
        } else if let Some(calls) = self.calls.reads.remove(&number) {
            for call in calls {
                self.confirmed(now, view, call, effects);
            }
        }
    }

    /// Renewals that waited for their remaining times to be cleared go on.
    fn checkpointed(&mut self, leases: &[LeaseRemaining]) {
        for name in cleared(leases) {
            if let Some(tenure) = &mut self.tenure {
                tenure.cleared(name);
            }
            let held = self.calls.held.remove(&name.id).into_iter().flatten();
            self.calls.unconfirmed.extend(held);
        }
    }

    pub(super) fn failed(&mut self, now: Millis, number: u64) {
        let again = Millis(now.0 + RETRY_MS);
        if self.begin.take(number).is_some() {
            self.begin.begin_at = again;
        } else if let Some(names) = self.expiry.take(number) {
            self.expiry.begin_at = Millis(now.0 + EXPIRE_AGAIN_MS);
            if let Some(tenure) = &mut self.tenure {
                tenure.put_back(names, now);
            }
        } else if let Some(leases) = self.checkpoint.take(number) {
            self.checkpoint.begin_at = again;
            self.to_clear.extend(cleared(&leases).map(|name| name.id));
        } else if let Some(calls) = self.calls.reads.remove(&number) {
            self.calls.unconfirmed.extend(calls);
            self.read_at = again;
        }
    }

    /// The leases of a standby end by the changes that it follows. When it is opened, each lease
    /// has its time from then on, as after a change of leader.
    fn note_standby(&mut self, now: Millis, is_standby: bool) {
        if is_standby {
            let later = Millis(now.0 + EXPIRE_AGAIN_MS);
            (self.expiry.begin_at, self.checkpoint.begin_at) = (later, later);
        } else if self.is_standby {
            self.tenure = None;
            self.begin = Proposal::default();
        }
        self.is_standby = is_standby;
    }

    pub(super) fn give_up_late(&mut self, now: Millis) {
        let (begin, expiry) = (self.begin.late(now), self.expiry.late(now));
        let late = [begin, expiry, self.checkpoint.late(now)];
        for number in late.into_iter().flatten() {
            self.failed(now, number);
        }
    }

    pub(super) fn lead(
        &mut self,
        now: Millis,
        term: Term,
        view: &ReadView,
        effects: &mut LessorEffects,
    ) {
        self.note_standby(now, view.is_standby());
        if self.tenure.is_none() {
            if self.begin.is_free(now) {
                let number = self.next_number();
                effects.read = Some(number);
                self.begin.pending = Some(self.pending(now, number, Vec::new()));
            }
            return;
        }
        // Before the expiries: of a renewal and an expiry at one time, the renewal counts.
        for call in std::mem::take(&mut self.calls.waiting) {
            self.begin_call(now, call);
        }
        self.propose_checkpoint(now, term, effects);
        self.propose_expiry(now, term, view, effects);
        if !self.calls.unconfirmed.is_empty() && self.read_at <= now {
            let number = self.next_number();
            effects.read = Some(number);
            let calls = std::mem::take(&mut self.calls.unconfirmed);
            self.calls.reads.insert(number, calls);
        }
    }

    /// Renews, if that is requested. The read that confirms it begins after this.
    fn begin_call(&mut self, now: Millis, mut call: Call) {
        let Some(tenure) = self.tenure.as_mut().filter(|_| call.renew) else {
            return self.calls.unconfirmed.push(call);
        };
        match tenure.renew(now, call.id) {
            // It may have been granted by an entry that is not applied here yet.
            Renewal::Absent => self.calls.unconfirmed.push(call),
            Renewal::Expiring => self.calls.hold(call),
            Renewal::Checkpointed(granted) => {
                call.renewed = Some(granted);
                self.to_clear.insert(call.id);
                self.calls.hold(call);
            }
            Renewal::Renewed(granted) => {
                call.renewed = Some(granted);
                self.calls.unconfirmed.push(call);
            }
        }
    }

    /// After a read: this member led when the call began, and everything until then is applied.
    fn confirmed(&mut self, now: Millis, view: &ReadView, call: Call, effects: &mut LessorEffects) {
        let Some(tenure) = &mut self.tenure else {
            return self.calls.waiting.push(call);
        };
        let Some(lease) = view.lease(call.id) else {
            return self.calls.answer(call, LeaseOutcome::Absent, effects);
        };
        tenure.see(now, lease);
        let ttl = match call.renew {
            false => tenure.left(now, call.id),
            true if call.renewed == Some(lease.granted)
                && tenure.is_alive(call.id, lease.granted) =>
            {
                lease.ttl
            }
            // It was granted since, or is expiring.
            true => return self.calls.waiting.push(call),
        };
        let granted_ttl = lease.ttl;
        let alive = LeaseOutcome::Alive { granted_ttl, ttl };
        self.calls.answer(call, alive, effects);
    }

    fn propose_expiry(
        &mut self,
        now: Millis,
        term: Term,
        view: &ReadView,
        effects: &mut LessorEffects,
    ) {
        let Some(tenure) = self.tenure.as_mut().filter(|_| self.expiry.is_free(now)) else {
            return;
        };
        let leases = tenure.take_due(now, view);
        if leases.is_empty() {
            return;
        }
        let number = self.next_number();
        let op = LeaseExpire {
            term: term.0,
            leases: leases.clone(),
        };
        effects.propose.push((number, Op::LeaseExpire(op)));
        self.expiry.pending = Some(self.pending(now, number, leases));
    }

    fn propose_checkpoint(&mut self, now: Millis, term: Term, effects: &mut LessorEffects) {
        let Some(tenure) = self
            .tenure
            .as_mut()
            .filter(|_| self.checkpoint.is_free(now))
        else {
            return;
        };
        let mut leases = Vec::new();
        while leases.len() < LEASES_MAX
            && let Some(id) = self.to_clear.pop_first()
        {
            leases.extend(tenure.clearing(id));
        }
        if leases.is_empty() {
            leases = tenure.take_checkpoints(now);
        }
        if leases.is_empty() {
            return;
        }
        let number = self.next_number();
        let op = LeaseCheckpoint {
            term: term.0,
            leases: leases.clone(),
        };
        effects.propose.push((number, Op::LeaseCheckpoint(op)));
        self.checkpoint.pending = Some(self.pending(now, number, leases));
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn pending<T>(&self, now: Millis, number: u64, leases: Vec<T>) -> Unanswered<T> {
        Unanswered {
            number,
            until: Millis(now.0.saturating_add(self.timeout_ms)),
            leases,
        }
    }
}

/// The leases of a checkpoint whose remaining time is cleared.
fn cleared(leases: &[LeaseRemaining]) -> impl Iterator<Item = &LeaseName> {
    let cleared = leases.iter().filter(|lease| lease.remaining_ttl == 0);
    cleared.filter_map(|lease| lease.lease.as_ref())
}
