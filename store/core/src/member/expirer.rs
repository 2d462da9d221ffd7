//! Expiry of v2 nodes with a time to live: the leader's part.
//!
//! The leader proposes expiries by its own clock, so that all members expire the same nodes. After
//! a time without a leader every overdue node would expire at once, before its owner could renew
//! it. On a platform that registers its services by heartbeats, all services would disappear. So a
//! new leader spares, for a grace period, the nodes whose time to live was set before its tenure,
//! as etcd extends v3 leases. The grace is longer than the heartbeats of Deis (10 s) and fleet (15
//! s).

use keelson_proto::internal::TreeExpire;

use crate::node::{Role, SoftState};
use crate::state::ReadView;
use crate::{Millis, Term};

/// The maximum delay of an expiry, in milliseconds; etcd's interval.
const TICK_MS: u64 = 500;

/// The minimum time between two proposals, in milliseconds: nodes that are due together expire
/// together.
const PAUSE_MS: u64 = 50;

const MS_NS: u64 = 1_000_000;

/// An event for the expirer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpirerEvent {
    /// `wake_at` has come, or the soft state has changed.
    Woken,
    /// The request of that number is complete: the read is done, or the proposal is applied.
    Done(u64),
    /// The request of that number was refused or timed out. A proposal may still be applied.
    Failed(u64),
}

/// Effects of the expirer. At most one request is made, a read or a proposal; a new one replaces
/// the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpirerEffects {
    /// The number of the request, for [`ExpirerEvent`].
    pub number: u64,
    /// Perform a linearizable read: wait until everything committed now is applied.
    pub read_index: bool,
    /// Propose this.
    pub propose: Option<TreeExpire>,
    /// The latest time of the next call.
    pub wake_at: Millis,
}

/// This member's leadership in one term, from the time when every entry of earlier terms was
/// applied.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    began: Millis,
    /// The tree's index at that time.
    index: u64,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
struct PendingRequest {
    number: u64,
    /// Its deadline.
    until: Millis,
}

/// Proposes expiries while this member leads.
#[derive(Clone, Debug)]
pub struct Expirer {
    grace_ms: u64,
    timeout_ms: u64,
    /// The term in which the member leads.
    term: Option<Term>,
    tenure: Option<Tenure>,
    /// Whether the cluster follows another one.
    is_standby: bool,
    request: Option<PendingRequest>,
    /// The number of the last request.
    last_number: u64,
    /// The time of the next check.
    check_at: Millis,
}

impl Expirer {
    /// An expirer. A new leader spares for `grace_ms` the nodes whose time to live was set before
    /// its tenure. A request without an answer is given up after `timeout_ms`, as clients' requests
    /// are.
    pub fn new(grace_ms: u64, timeout_ms: u64) -> Expirer {
        Expirer {
            grace_ms,
            timeout_ms,
            term: None,
            tenure: None,
            is_standby: false,
            request: None,
            last_number: 0,
            check_at: Millis::default(),
        }
    }

    /// Processes an event. `clock_ns` is the wall clock in ns since 1970, to which expiry times are
    /// compared; `now` is monotonic.
    pub fn handle(
        &mut self,
        now: Millis,
        clock_ns: i64,
        soft_state: SoftState,
        view: &ReadView,
        event: ExpirerEvent,
    ) -> ExpirerEffects {
        self.note_soft_state(now, soft_state);
        self.note_answer(now, view, event);
        let mut effects = ExpirerEffects {
            number: 0,
            read_index: false,
            propose: None,
            wake_at: Millis(u64::MAX),
        };
        self.note_standby(view.is_standby());
        if self.term.is_some() && self.is_standby {
            effects.wake_at = Millis(now.0 + TICK_MS);
        } else if let Some(term) = self.term {
            self.give_up_late(now);
            if self.request.is_none() && self.check_at <= now {
                self.check(now, clock_ns, term, view, &mut effects);
            }
            effects.wake_at = self.request.map_or(self.check_at, |request| request.until);
        }
        effects
    }

    /// Ends the tenure when the term or the role changes.
    fn note_soft_state(&mut self, now: Millis, soft_state: SoftState) {
        let leads = soft_state.role == Role::Leader;
        let term = leads.then_some(soft_state.term);
        if term != self.term {
            self.term = term;
            (self.tenure, self.request) = (None, None);
            self.check_at = now;
        }
    }

    /// The nodes of a standby end by the events that it follows. When it is opened, those that are
    /// overdue get the grace of a new leader.
    fn note_standby(&mut self, is_standby: bool) {
        if is_standby {
            (self.tenure, self.request) = (None, None);
        }
        self.is_standby = is_standby;
    }

    /// Records an answer. One to a request of an earlier term, or to one given up, is ignored.
    fn note_answer(&mut self, now: Millis, view: &ReadView, event: ExpirerEvent) {
        let (number, done) = match event {
            ExpirerEvent::Woken => return,
            ExpirerEvent::Done(number) => (number, true),
            ExpirerEvent::Failed(number) => (number, false),
        };
        let answered = self
            .request
            .take_if(|last_number| last_number.number == number);
        if answered.is_none() {
            return;
        }
        // Before the tenure the request was the read.
        if done && self.tenure.is_none() {
            let index = view.tree_index();
            self.tenure = Some(Tenure { began: now, index });
        }
        self.check_at = Millis(now.0 + PAUSE_MS);
    }

    fn give_up_late(&mut self, now: Millis) {
        if self
            .request
            .take_if(|request| request.until <= now)
            .is_some()
        {
            self.check_at = Millis(now.0 + PAUSE_MS);
        }
    }

    /// Makes the request that is due, and plans the next check.
    fn check(
        &mut self,
        now: Millis,
        clock_ns: i64,
        term: Term,
        view: &ReadView,
        effects: &mut ExpirerEffects,
    ) {
        let Some(tenure) = self.tenure else {
            effects.read_index = true;
            effects.number = self.begin_request(now);
            return;
        };
        let spared_index = match now.0.saturating_sub(tenure.began.0) < self.grace_ms {
            true => tenure.index,
            false => 0,
        };
        let due = view.tree_next_expiry(spared_index);
        let wait_ms = match due.map(|due| due.saturating_sub(clock_ns)) {
            None => TICK_MS,
            Some(ahead_ns) if 0 < ahead_ns => {
                let ahead_ms = ahead_ns.unsigned_abs().div_ceil(MS_NS);
                ahead_ms.clamp(PAUSE_MS, TICK_MS)
            }
            Some(_) => {
                effects.propose = Some(TreeExpire {
                    time_ns: clock_ns,
                    spared_index,
                    term: term.0,
                });
                effects.number = self.begin_request(now);
                return;
            }
        };
        self.check_at = Millis(now.0 + wait_ms);
    }

    fn begin_request(&mut self, now: Millis) -> u64 {
        self.last_number += 1;
        self.request = Some(PendingRequest {
            number: self.last_number,
            until: Millis(now.0.saturating_add(self.timeout_ms)),
        });
        self.last_number
    }
}

#[cfg(test)]
mod tests;
