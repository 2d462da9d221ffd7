//! The differences that `golden/differences_v2.md` explains.

use super::compare::Difference;
use crate::http::Request;

/// The explanations; a rule without its line there is not accepted.
pub const GOLDEN: &str = include_str!("../../golden/differences_v2.md");

/// One accepted difference.
struct Rule {
    /// Its name: the first column of its line in the golden file.
    name: &'static str,
    /// Whether it explains the difference.
    explains: fn(&Request, &Difference) -> bool,
}

const RULES: [Rule; 1] = [Rule {
    name: "etcd-panics",
    explains: etcd_panics,
}];

fn etcd_panics(_: &Request, difference: &Difference) -> bool {
    difference.what == "answer" && difference.theirs.as_deref() == Some("closed without an answer")
}

/// The name of the accepted difference, if it is one.
///
/// # Panics
/// The rule has no line in the golden file.
pub fn accepted(request: &Request, difference: &Difference) -> Option<&'static str> {
    let rule = RULES
        .iter()
        .find(|rule| (rule.explains)(request, difference))?;
    assert!(
        named().contains(&rule.name),
        "{} has no line in golden/differences_v2.md",
        rule.name
    );
    Some(rule.name)
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
