//! A finding, and the verdict of all.

use std::process::ExitCode;

use serde::Serialize;

/// How much a finding weighs. The order is that of weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Service is complete; the next fault may end it.
    Warning,
    /// Service or data is missing, or will be soon.
    Critical,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// The name of the check, for monitoring.
    pub(super) check: &'static str,
    /// The member, by its name or id. `None`: the cluster.
    pub(super) member: Option<String>,
    /// What is wrong.
    pub(super) fault: String,
    /// What mends it: commands where there are any.
    pub(super) remedy: String,
}

/// The verdict on a cluster, with the exit codes that Nagios and its successors expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Healthy,
    Warning,
    Critical,
}

impl Verdict {
    pub(super) fn of(findings: &[Finding]) -> Verdict {
        match findings.iter().map(|finding| finding.severity).max() {
            None => Verdict::Healthy,
            Some(Severity::Warning) => Verdict::Warning,
            Some(Severity::Critical) => Verdict::Critical,
        }
    }

    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Verdict::Healthy => 0,
            Verdict::Warning => 1,
            Verdict::Critical => 2,
        })
    }
}

/// The exit code for a command line that cannot be carried out: "unknown" to monitoring.
pub(super) const UNKNOWN: u8 = 3;
