//! The comparison of the members' running hashes, led by the leader.
//!
//! Every some thousand entries, and when nothing more is written, the leader proposes a `COMPARE`.
//! Each member notes its hash there and reports it. Once a majority of the voters has one value,
//! the leader proposes it as the `VERDICT`, and a member that had another one serves no client from
//! that entry on. The leader's own value has one vote. If no value can get a majority, also in a
//! second comparison where voters were missing in the first, it is not decidable which state is
//! right: the CORRUPT alarm stops all clients, as in etcd.

use std::collections::BTreeMap;

use keelson_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use keelson_proto::internal::HashCheck;
use keelson_proto::internal::command::Op;
use keelson_proto::internal::hash_check::Step;

use crate::state::auth::Caller;
use crate::state::{Divergence, HASH_SCHEME, HashOutcome, HashReport};
use crate::{Index, MemberId, Millis};

/// When the leader compares hashes.
#[derive(Clone, Copy, Debug)]
pub struct AuditPolicy {
    /// After this number of entries;
    pub entries: u64,
    /// or this long after the last entry, in milliseconds.
    pub quiet_ms: u64,
}

impl Default for AuditPolicy {
    fn default() -> AuditPolicy {
        AuditPolicy {
            entries: 4096,
            quiet_ms: 10_000,
        }
    }
}

/// How long the leader waits for reports before it compares anew, in milliseconds.
const ROUND_MS: u64 = 10_000;
/// How long it waits, where reports differ, for those that give one value a majority.
const DISPUTE_MS: u64 = 30_000;

/// How often a member repeats its report until the verdict, in milliseconds: the network may lose
/// it. The member gives up when the leader does.
const REPEAT_MS: u64 = 2_000;

/// A message from the applier to consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditNote {
    /// The state is another one, or has become so.
    State {
        /// Whether every member understands the comparison.
        admitted: bool,
        /// The divergence for which this member serves no client.
        divergence: Option<Divergence>,
        /// The applied index.
        applied: Index,
    },
    /// What the entry of that index meant.
    Applied(Index, HashOutcome),
}

/// The members' reports, and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgement {
    /// A majority has that value.
    Agreed(u64),
    /// No value can get a majority.
    Disputed,
    /// Some members have no hash, and the others are too few.
    Unknown,
    /// More reports may come.
    Open,
}

/// A comparison in progress.
#[derive(Debug)]
struct Comparison {
    began: Millis,
    /// The entry, once this member has applied it.
    index: Option<Index>,
    /// A proposal follows from it already.
    is_judged: bool,
}

/// This member's own report, until the verdict.
#[derive(Clone, Copy, Debug)]
struct OwnReport {
    report: HashReport,
    made: Millis,
    send_at: Millis,
}

/// The leader's comparisons, and this member's part in those of others.
#[derive(Debug)]
pub(super) struct Auditor {
    policy: AuditPolicy,
    is_admitted: bool,
    /// Everything up to this entry is compared.
    covered: u64,
    /// The last comparison that this member has applied.
    compared: u64,
    /// The last committed entry, and when it was first seen.
    newest: (u64, Millis),
    round: Option<Comparison>,
    /// Each member's last report.
    reports: BTreeMap<MemberId, HashReport>,
    own: Option<OwnReport>,
    /// The last comparison was without a majority, and some voters gave no report. They may have
    /// been sent a snapshot meanwhile, or have been down, so one more comparison is waited for.
    was_undecided: bool,
    /// A member has no hash.
    must_begin: bool,
}

impl Auditor {
    pub(super) fn new(policy: AuditPolicy) -> Auditor {
        Auditor {
            policy,
            is_admitted: false,
            covered: 0,
            compared: 0,
            newest: (0, Millis(0)),
            round: None,
            reports: BTreeMap::new(),
            own: None,
            was_undecided: false,
            must_begin: false,
        }
    }

    pub(super) fn admit(&mut self, is_admitted: bool) {
        self.is_admitted = is_admitted;
    }

    /// This member has applied an entry of a comparison.
    pub(super) fn applied(
        &mut self,
        now: Millis,
        me: MemberId,
        index: Index,
        outcome: HashOutcome,
    ) {
        self.own = match outcome {
            HashOutcome::Compared(report) => Some(OwnReport {
                report,
                made: now,
                send_at: now,
            }),
            HashOutcome::Begun | HashOutcome::Agreed | HashOutcome::Differs(_) => None,
        };
        self.was_undecided &= matches!(outcome, HashOutcome::Compared(_));
        match outcome {
            HashOutcome::Compared(report) => {
                self.compared = index.0;
                if let Some(round) = &mut self.round {
                    round.index = Some(index);
                    self.report(me, report);
                }
            }
            HashOutcome::Begun => {
                self.covered = index.0;
                self.must_begin = false;
                self.round = None;
            }
            HashOutcome::Agreed | HashOutcome::Differs(_) => {
                // A quiet cluster is compared once. What came before the verdict, and after the
                // comparison, is not compared.
                self.covered = match index.0 == self.compared + 1 {
                    true => index.0,
                    false => self.compared,
                };
                self.round = None;
            }
        }
    }

    /// This member's report, if the leader is due to get it.
    pub(super) fn report_due(&mut self, now: Millis) -> Option<HashReport> {
        self.own.take_if(|own| own.made.0 + DISPUTE_MS <= now.0);
        let own = self.own.as_mut().filter(|own| own.send_at <= now)?;
        own.send_at = Millis(now.0 + REPEAT_MS);
        Some(own.report)
    }

    /// A member reports its hash.
    pub(super) fn report(&mut self, from: MemberId, report: HashReport) {
        self.reports.insert(from, report);
    }

    /// A proposal is certainly not in the log.
    pub(super) fn refused(&mut self) {
        self.round = None;
    }

    /// The next proposal of a member, if it leads.
    pub(super) fn propose(
        &mut self,
        now: Millis,
        committed: Index,
        leads: bool,
        voters: impl FnOnce() -> Vec<MemberId>,
    ) -> Option<Op> {
        if !leads || !self.is_admitted {
            self.round = None;
            // The next leader acts on what it sees. Later, hashes that began anew would hide what
            // differs by then.
            (self.must_begin, self.was_undecided) = (false, false);
            return None;
        }
        self.round.take_if(|round| round.is_late(now));
        match &self.round {
            Some(round) if round.is_judged || round.index.is_none() => None,
            Some(_) => self.judge(now, &voters()),
            None => self.begin_if_due(now, committed),
        }
    }

    fn begin_if_due(&mut self, now: Millis, committed: Index) -> Option<Op> {
        if self.newest.0 != committed.0 {
            self.newest = (committed.0, now);
        }
        let (newest, since) = self.newest;
        let many = self.covered + self.policy.entries <= newest;
        let quiet = self.covered < newest && since.0 + self.policy.quiet_ms <= now.0;
        // At once: what is written until then would not be compared.
        if !self.must_begin && !many && !quiet {
            return None;
        }
        self.reports.clear();
        self.round = Some(Comparison {
            began: now,
            index: None,
            is_judged: self.must_begin,
        });
        Some(match self.must_begin {
            true => step(Step::Begin),
            false => step(Step::Compare),
        })
    }

    fn judge(&mut self, now: Millis, voters: &[MemberId]) -> Option<Op> {
        let round = self.round.as_mut().filter(|round| !round.is_judged)?;
        let index = round.index?;
        let of = |report: &HashReport| report.index == index;
        self.must_begin |= self
            .reports
            .values()
            .any(|report| of(report) && report.value.is_none());
        let cast = voters.iter().filter_map(|voter| self.reports.get(voter));
        let cast: Vec<_> = cast.filter(|report| of(report)).collect();
        let waited = round.began.0 + DISPUTE_MS <= now.0;
        let judgement = judgement(&cast, voters.len(), waited && self.was_undecided);
        round.is_judged = judgement != Judgement::Open;
        round.began = if round.is_judged { now } else { round.began };
        match judgement {
            Judgement::Agreed(value) => Some(Op::HashCheck(HashCheck {
                step: Step::Verdict.into(),
                scheme: HASH_SCHEME,
                index: index.0,
                value,
            })),
            Judgement::Disputed => Some(corrupt_alarm()),
            Judgement::Unknown => Some(step(Step::Begin)),
            Judgement::Open => {
                // Where reports differ, the one that decides may come late.
                let mut values = cast.iter().filter_map(|report| report.value);
                let first = values.next();
                let disputed = values.any(|value| Some(value) != first);
                let late = round.began.0 + ROUND_MS <= now.0;
                self.was_undecided |= waited && disputed;
                self.round.take_if(|_| waited || late && !disputed);
                None
            }
        }
    }
}

impl Comparison {
    /// Whether what was proposed has not been applied in time.
    fn is_late(&self, now: Millis) -> bool {
        let waits = self.index.is_none() || self.is_judged;
        waits && self.began.0 + ROUND_MS <= now.0
    }
}

/// `cast` are the voters' reports, at most one each; `waited` is whether no more are waited for.
fn judgement(cast: &[&HashReport], voters: usize, waited: bool) -> Judgement {
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for value in cast.iter().filter_map(|report| report.value) {
        *votes.entry(value).or_default() += 1;
    }
    let majority = voters / 2 + 1;
    let most = votes.iter().max_by_key(|(_, count)| **count);
    if let Some((value, _)) = most.filter(|(_, count)| majority <= **count) {
        return Judgement::Agreed(*value);
    }
    let all = cast.len() == voters;
    let unknown = cast.len() - votes.values().sum::<usize>();
    if 1 < votes.len() && (all || waited) {
        return Judgement::Disputed;
    }
    match votes.len() <= 1 && 0 < unknown && majority <= cast.len() {
        true => Judgement::Unknown,
        false => Judgement::Open,
    }
}

fn step(step: Step) -> Op {
    Op::HashCheck(HashCheck {
        step: step.into(),
        scheme: HASH_SCHEME,
        ..HashCheck::default()
    })
}

/// The alarm of no member, as etcd raises it where there is no majority.
fn corrupt_alarm() -> Op {
    let alarm = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 0,
        alarm: AlarmType::Corrupt.into(),
    };
    Caller::Member.signed(Op::Alarm(alarm))
}

#[cfg(test)]
mod tests;
