//! The accepted differences, which `golden/differences_v2.md` explains.

use super::compare::{Difference, bodies};
use super::json::Json;
use super::subject::Answer;
use crate::http::Request;

/// The explanations; a rule without its line there is not accepted.
pub const GOLDEN: &str = include_str!("../../golden/differences_v2.md");

/// One accepted difference.
struct Rule {
    /// Its name: the first column of its line in the golden file.
    name: &'static str,
    /// Whether it explains the difference.
    explains: fn(&Case<'_>) -> bool,
}

/// The input of a rule.
struct Case<'a> {
    request: &'a Request,
    difference: &'a Difference,
    ours: &'a Answer,
    theirs: &'a Answer,
}

const RULES: [Rule; 8] = [
    Rule {
        name: "etcd-panics",
        explains: etcd_panics,
    },
    Rule {
        name: "framing",
        explains: framing,
    },
    Rule {
        name: "no-http",
        explains: no_http,
    },
    Rule {
        name: "version",
        explains: |case| same_but(case, "/version", without_storage),
    },
    Rule {
        name: "health",
        explains: |case| same_but(case, "/health", without_reason),
    },
    Rule {
        name: "negative-ttl",
        explains: |case| same_but(case, "/v2/keys", without_negative_ttls),
    },
    Rule {
        name: "told-twice",
        explains: told_twice,
    },
    Rule {
        name: "stream-from-history",
        explains: stream_from_history,
    },
];

/// The name of the accepted difference, if it is one.
///
/// # Panics
/// The rule has no line in the golden file.
pub fn accepted(
    request: &Request,
    difference: &Difference,
    ours: &Answer,
    theirs: &Answer,
) -> Option<&'static str> {
    let case = Case {
        request,
        difference,
        ours,
        theirs,
    };
    let rule = RULES.iter().find(|rule| (rule.explains)(&case))?;
    assert!(
        named().contains(&rule.name),
        "{} has no line in golden/differences_v2.md",
        rule.name
    );
    Some(rule.name)
}

fn etcd_panics(case: &Case<'_>) -> bool {
    let theirs = case.theirs.as_ref().err().map(String::as_str);
    case.ours.is_ok() && theirs == Some("closed without an answer")
}

fn framing(case: &Case<'_>) -> bool {
    let (ours, theirs) = (&case.difference.ours, &case.difference.theirs);
    match case.difference.what.as_str() {
        "header content-length" => ours.is_some() && theirs.is_none(),
        "header transfer-encoding" => ours.is_none() && theirs.as_deref() == Some("chunked"),
        _ => false,
    }
}

fn no_http(case: &Case<'_>) -> bool {
    let (Ok(ours), Ok(theirs)) = (case.ours, case.theirs) else {
        return false;
    };
    let refused = theirs.status == 400 && theirs.body.starts_with(b"400 Bad Request");
    refused && ours.status == 400 && case.difference.what != "header connection"
}

/// The bodies, if they are the difference.
fn bodies_of(case: &Case<'_>) -> Option<(String, String)> {
    let (Ok(ours), Ok(theirs)) = (case.ours, case.theirs) else {
        return None;
    };
    let body = ["body", "order"]
        .iter()
        .any(|what| case.difference.what.starts_with(what));
    body.then(|| (ours.text(), theirs.text()))
}

/// Whether the bodies are the same once both are changed that way.
fn same_but(case: &Case<'_>, target: &str, change: fn(&str) -> String) -> bool {
    let Some((ours, theirs)) = bodies_of(case) else {
        return false;
    };
    let (ours, theirs) = (change(&ours), change(&theirs));
    let here = case.request.target_text().starts_with(target);
    here && bodies(case.request, ours.as_bytes(), theirs.as_bytes()).is_none()
}

/// The body without storage figures, which ours reports as etcd 3.5 does.
fn without_storage(body: &str) -> String {
    match body.split_once(",\"storage\":") {
        Some((before, _)) => format!("{before}}}"),
        None => body.to_string(),
    }
}

fn without_reason(body: &str) -> String {
    body.replace(",\"reason\":\"\"", "")
}

fn without_negative_ttls(body: &str) -> String {
    let lines = body
        .split_inclusive('\n')
        .map(|line| match Json::parse(line) {
            Some((mut json, rest)) => {
                json.drop_negative_ttls();
                format!("{json}{rest}")
            }
            None => line.to_string(),
        });
    lines.collect()
}

/// Only etcd may send an event twice.
fn told_twice(case: &Case<'_>) -> bool {
    let Some((ours, theirs)) = bodies_of(case) else {
        return false;
    };
    let (ours, theirs) = (without_negative_ttls(&ours), told_once(&theirs));
    let stream = case.request.target_text().contains("stream=true");
    stream && bodies(case.request, ours.as_bytes(), theirs.as_bytes()).is_none()
}

/// The body without events that repeat the one before, and without times long past.
fn told_once(body: &str) -> String {
    let mut lines: Vec<&str> = body.split_inclusive('\n').collect();
    lines.dedup();
    without_negative_ttls(&lines.concat())
}

fn stream_from_history(case: &Case<'_>) -> bool {
    let Some((ours, theirs)) = bodies_of(case) else {
        return false;
    };
    let target = case.request.target_text();
    let lines = |body: &str| told_once(body).split_inclusive('\n').count();
    let first = |body: &str| body.split_inclusive('\n').next().map(without_negative_ttls);
    let same = match (first(&ours), first(&theirs)) {
        (Some(ours), Some(theirs)) => {
            bodies(case.request, ours.as_bytes(), theirs.as_bytes()).is_none()
        }
        _ => false,
    };
    target.contains("stream=true") && target.contains("waitIndex=") && lines(&theirs) == 1 && same
}

/// The names in the golden file.
pub fn named() -> Vec<&'static str> {
    let rows = GOLDEN.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_line_and_every_line_its_rule() {
        let rules: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(rules, named());
    }
}
