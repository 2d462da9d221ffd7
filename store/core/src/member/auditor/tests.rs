//! Tests of the leader's comparisons.

use super::*;

const ME: MemberId = MemberId(1);

fn voters() -> Vec<MemberId> {
    vec![ME, MemberId(2), MemberId(3)]
}

fn report(index: u64, value: Option<u64>) -> HashReport {
    HashReport {
        index: Index(index),
        value,
    }
}

/// A leader that has proposed a comparison, and has applied it as entry 11 with that hash.
fn compared(value: Option<u64>) -> Auditor {
    let mut auditor = Auditor::new(AuditPolicy {
        entries: 10,
        quiet_ms: 1_000,
    });
    auditor.admit(true);
    let first = auditor.propose(Millis(0), Index(10), true, voters);
    assert_eq!(first, Some(step(Step::Compare)));
    assert_eq!(auditor.propose(Millis(1), Index(11), true, voters), None);
    auditor.applied(
        Millis(0),
        ME,
        Index(11),
        HashOutcome::Compared(report(11, value)),
    );
    auditor
}

fn verdict(value: u64) -> Option<Op> {
    Some(Op::HashCheck(HashCheck {
        step: Step::Verdict.into(),
        scheme: HASH_SCHEME,
        index: 11,
        value,
    }))
}

#[test]
fn the_majority_decides_and_not_the_leader() {
    let mut auditor = compared(Some(7));
    let now = Millis(10);
    assert_eq!(auditor.propose(now, Index(11), true, voters), None);
    auditor.report(MemberId(2), report(11, Some(8)));
    // A report about another comparison, and one of a member that has no vote.
    auditor.report(MemberId(3), report(5, Some(8)));
    auditor.report(MemberId(4), report(11, Some(8)));
    assert_eq!(auditor.propose(now, Index(11), true, voters), None);
    auditor.report(MemberId(3), report(11, Some(8)));
    assert_eq!(auditor.propose(now, Index(11), true, voters), verdict(8));
    assert_eq!(auditor.propose(now, Index(11), true, voters), None, "once");
    auditor.applied(Millis(0), ME, Index(12), HashOutcome::Agreed);
    let quiet = Millis(60_000);
    assert_eq!(auditor.propose(quiet, Index(12), true, voters), None);
}

/// They were never compared if nothing was written after them.
#[test]
fn entries_between_a_comparison_and_its_verdict_are_compared_later() {
    let mut auditor = compared(Some(7));
    auditor.report(MemberId(2), report(11, Some(7)));
    let next = auditor.propose(Millis(10), Index(12), true, voters);
    assert_eq!(next, verdict(7));
    auditor.applied(Millis(0), ME, Index(13), HashOutcome::Agreed);
    assert_eq!(auditor.propose(Millis(20), Index(13), true, voters), None);
    let quiet = Millis(20 + 1_000);
    let next = auditor.propose(quiet, Index(13), true, voters);
    assert_eq!(next, Some(step(Step::Compare)));
}

#[test]
fn without_a_majority_the_alarm_is_raised() {
    let mut auditor = compared(Some(7));
    auditor.report(MemberId(2), report(11, Some(8)));
    let wait = |auditor: &mut Auditor, now| auditor.propose(Millis(now), Index(11), true, voters);
    assert_eq!(wait(&mut auditor, ROUND_MS + 1), None, "a third may come");
    auditor.report(MemberId(3), report(11, Some(9)));
    assert_eq!(wait(&mut auditor, ROUND_MS + 2), Some(corrupt_alarm()));
    let mut auditor = compared(Some(7));
    auditor.report(MemberId(2), report(11, Some(8)));
    // The third may be down, or have been sent a snapshot. The next comparison may decide.
    assert_eq!(wait(&mut auditor, DISPUTE_MS), None);
    let next = wait(&mut auditor, DISPUTE_MS);
    assert_eq!(next, Some(step(Step::Compare)));
    let compared = HashOutcome::Compared(report(12, Some(7)));
    auditor.applied(Millis(DISPUTE_MS), ME, Index(12), compared);
    auditor.report(MemberId(2), report(12, Some(8)));
    assert_eq!(wait(&mut auditor, 2 * DISPUTE_MS - 1), None);
    assert_eq!(wait(&mut auditor, 2 * DISPUTE_MS), Some(corrupt_alarm()));
}

#[test]
fn hashes_begin_anew_when_a_member_does_not_know_its_own() {
    let mut auditor = compared(None);
    auditor.report(MemberId(2), report(11, None));
    let next = auditor.propose(Millis(10), Index(11), true, voters);
    assert_eq!(next, Some(step(Step::Begin)));
    auditor.applied(Millis(0), ME, Index(12), HashOutcome::Begun);
    let next = auditor.propose(Millis(20), Index(30), true, voters);
    assert_eq!(next, Some(step(Step::Compare)));
    // A majority has one, and the third begins with the others after the verdict.
    let mut auditor = compared(Some(7));
    auditor.report(MemberId(2), report(11, Some(7)));
    auditor.report(MemberId(3), report(11, None));
    let next = auditor.propose(Millis(10), Index(11), true, voters);
    assert_eq!(next, verdict(7));
    auditor.applied(Millis(0), ME, Index(12), HashOutcome::Agreed);
    let next = auditor.propose(Millis(20), Index(12), true, voters);
    assert_eq!(next, Some(step(Step::Begin)), "at once");
}

#[test]
fn nothing_is_proposed_by_followers_and_before_every_member_understands_it() {
    let mut auditor = Auditor::new(AuditPolicy::default());
    let propose =
        |auditor: &mut Auditor, leads| auditor.propose(Millis(0), Index(9_000), leads, voters);
    assert_eq!(propose(&mut auditor, true), None);
    auditor.admit(true);
    assert_eq!(propose(&mut auditor, false), None);
    assert!(propose(&mut auditor, true).is_some());
}

/// A lost report of one member, and a wrong state of another one, raised the CORRUPT alarm.
#[test]
fn a_report_is_repeated_until_the_verdict_or_until_the_leader_gives_up() {
    let mut auditor = compared(Some(7));
    let mut sent = |range: std::ops::Range<u64>| {
        range
            .filter(|now| auditor.report_due(Millis(*now)).is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(sent(0..5_000), [0, REPEAT_MS, 2 * REPEAT_MS]);
    assert_eq!(sent(DISPUTE_MS - 1..2 * DISPUTE_MS), [DISPUTE_MS - 1]);
    let mut auditor = compared(Some(7));
    auditor.applied(Millis(1), ME, Index(12), HashOutcome::Agreed);
    assert_eq!(auditor.report_due(Millis(9)), None);
}

#[test]
fn a_comparison_that_nobody_answers_is_repeated() {
    let mut auditor = compared(Some(7));
    let mut next = None;
    for now in (0..3).map(|n| n * ROUND_MS) {
        next = next.or(auditor.propose(Millis(now), Index(11), true, voters));
    }
    assert_eq!(next, Some(step(Step::Compare)));
}

/// It proposed that hashes begin anew when it led again, hours later. What differed by then was
/// never found.
#[test]
fn a_former_leader_forgets_who_had_no_hash() {
    let mut auditor = compared(Some(7));
    auditor.report(MemberId(2), report(11, None));
    let five = || (1..=5).map(MemberId).collect();
    assert_eq!(auditor.propose(Millis(1), Index(11), true, five), None);
    assert_eq!(auditor.propose(Millis(2), Index(11), false, five), None);
    let next = auditor.propose(Millis(3), Index(30), true, voters);
    assert_eq!(next, Some(step(Step::Compare)));
}
