//! The diagnosis as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::facts::Facts;
use super::finding::{Finding, Severity, Verdict};

/// The report for monitoring.
#[derive(Serialize)]
struct JsonReport<'a> {
    verdict: Verdict,
    members: usize,
    voters: usize,
    answering: usize,
    /// The leader's name.
    leader: Option<String>,
    findings: &'a [Finding],
}

/// One line of JSON.
pub(super) fn json(facts: &Facts, findings: &[Finding]) -> String {
    let report = JsonReport {
        verdict: Verdict::of(findings),
        members: facts.members.len(),
        voters: facts.voters().count(),
        answering: facts.statuses().count(),
        leader: leader(facts),
        findings,
    };
    serde_json::to_string(&report).expect("its keys are strings") + "\n"
}

/// Lines for an operator: each fault with its remedy below, then the verdict.
pub(super) fn text(facts: &Facts, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let of = finding.member.as_deref().unwrap_or("cluster");
        let severity = match finding.severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "WARNING ",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{severity} {of}: {}", finding.fault);
        let _ = writeln!(text, "         -> {}", finding.remedy);
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    };
    let leader = leader(facts).map_or("no leader".to_owned(), |name| format!("leader {name}"));
    let members = facts.members.len();
    let of = match members {
        0 => "no member was found".to_owned(),
        _ => format!(
            "{} of {members} members answer, {leader}",
            facts.statuses().count()
        ),
    };
    let _ = match Verdict::of(findings) {
        Verdict::Healthy => writeln!(text, "healthy: {of}"),
        Verdict::Warning => writeln!(text, "warning: {} to mend; {of}", count(Severity::Warning)),
        Verdict::Critical => writeln!(
            text,
            "critical: {} to mend now, {} later; {of}",
            count(Severity::Critical),
            count(Severity::Warning)
        ),
    };
    text
}

/// The name of the leader of the newest term.
fn leader(facts: &Facts) -> Option<String> {
    let newest = facts
        .statuses()
        .max_by_key(|(_, status)| (status.leader != 0, status.term))?;
    let id = newest.1.leader;
    let member = facts.members.iter().find(|member| member.id == id)?;
    Some(member.label())
}
