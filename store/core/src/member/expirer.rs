//! The end of nodes that had a time to live: the leader's part.
//!
//! Only the leader's clock decides, by a proposal, so that all members agree. After a time without
//! a leader whatever is overdue would go at once, before its owner had a chance to renew it, and on
//! a platform that keeps its services alive by heartbeats every service with it. So a new leader
//! spares what was set before its time, as etcd's v3 leases are spared: for a grace, which is
//! longer than the heartbeats of Deis (10 s) and fleet (15 s).

use keelson_proto::internal::TreeExpire;

use crate::node::{Role, SoftState};
use crate::state::ReadView;
use crate::{Millis, Term};

/// How late an expiry may be found, in milliseconds; etcd's interval.
const TICK_MS: u64 = 500;

/// Between two proposals, in milliseconds: what falls due together goes together.
const PAUSE_MS: u64 = 50;

const MS_NS: u64 = 1_000_000;

/// What has happened to an expirer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpirerEvent {
    /// It is `wake_at`, or the soft state has changed.
    Woken,
    /// The question of that number was answered: the read is done, or the proposal applied.
    Done(u64),
    /// It was refused, or timed out: it has no answer, and a proposal may still be applied.
    Failed(u64),
}

/// What must be carried out. At most one of the two questions is asked; a new one replaces the one
/// before.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpirerEffects {
    /// Names the question in [`ExpirerEvent`].
    pub number: u64,
    /// Wait until everything that is committed now is applied.
    pub read_index: bool,
    /// Propose this.
    pub propose: Option<TreeExpire>,
    /// Call again at this time even if nothing happens.
    pub wake_at: Millis,
}

/// The time of this member's leadership in one term, from when everything of earlier terms was
/// applied.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    began: Millis,
    /// The tree's index when it began.
    index: u64,
}

/// A question that has no answer yet.
#[derive(Clone, Copy, Debug)]
struct PendingRequest {
    number: u64,
    /// When it is given up.
    until: Millis,
}

/// Proposes expiries while its member leads.
#[derive(Clone, Debug)]
pub struct Expirer {
    grace_ms: u64,
    timeout_ms: u64,
    /// The term in which the member leads.
    term: Option<Term>,
    tenure: Option<Tenure>,
    request: Option<PendingRequest>,
    /// The number of the last question.
    last_number: u64,
    /// Nothing is done before.
    check_at: Millis,
}

impl Expirer {
    /// The expirer of a member's process. A new leader spares for `grace_ms` what was set before
    /// its time. A question without an answer is given up after `timeout_ms`, as clients' requests
    /// are.
    pub fn new(grace_ms: u64, timeout_ms: u64) -> Expirer {
        Expirer {
            grace_ms,
            timeout_ms,
            term: None,
            tenure: None,
            request: None,
            last_number: 0,
            check_at: Millis::default(),
        }
    }

    /// Takes an event. `clock_ns` is the wall clock, in ns since 1970, with which times to live are
    /// compared; `now` is a clock that never goes back.
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
        if let Some(term) = self.term {
            self.give_up_late(now);
            if self.request.is_none() && self.check_at <= now {
                self.check(now, clock_ns, term, view, &mut effects);
            }
            effects.wake_at = self.request.map_or(self.check_at, |request| request.until);
        }
        effects
    }

    /// A reign ends with its term: the next one begins anew.
    fn note_soft_state(&mut self, now: Millis, soft_state: SoftState) {
        let leads = soft_state.role == Role::Leader;
        let term = leads.then_some(soft_state.term);
        if term != self.term {
            self.term = term;
            (self.tenure, self.request) = (None, None);
            self.check_at = now;
        }
    }

    /// An answer to a question of an earlier term, or to one that was given up, is ignored.
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
        // Without a reign it was the read.
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

    /// Looks what there is to do, and plans the next look.
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
            effects.number = self.ask(now);
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
                effects.number = self.ask(now);
                return;
            }
        };
        self.check_at = Millis(now.0 + wait_ms);
    }

    fn ask(&mut self, now: Millis) -> u64 {
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
