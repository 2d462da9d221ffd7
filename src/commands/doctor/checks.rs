//! The diagnosis: from facts to findings, without IO.

mod alarms;
mod backups;
mod placement;

use std::time::Duration;

use super::facts::{Facts, MemberFacts, MemberStatus, Presence};
use super::finding::{Finding, Severity, Severity::*};

/// A member that has applied so many entries less than another is behind: etcd's bound for a
/// learner's promotion is a tenth of the leader's entries, and a burst of writes is no fault.
const BEHIND_ENTRIES: u64 = 5_000;

/// The shares of the quota in use at which space is short.
const QUOTA_WARNING: f64 = 0.8;
const QUOTA_CRITICAL: f64 = 0.95;

/// etcd's guide: the 99th percentile of an fsync should be below 10 ms. The buckets are powers of
/// two of 1 ms.
const FSYNC_SECONDS: f64 = 0.016;

/// A status is in memory. Half an election timeout of etcd's default.
const SLOW_ANSWER: Duration = Duration::from_millis(500);

/// A difference of clocks that spoils log times and certificates; leases do not depend on it.
const SKEW_SECONDS: f64 = 1.0;

/// Days before a certificate's end.
const CERTIFICATE_WARNING: f64 = 30.0;
const CERTIFICATE_CRITICAL: f64 = 3.0;

/// The share of the descriptors in use at which connections will soon be refused.
const DESCRIPTORS_SHARE: f64 = 0.8;

/// All findings, the worst first.
pub(super) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::default();
    for (endpoint, failure) in &facts.endpoints {
        if let Some(failure) = failure {
            endpoint_fails(&mut found, endpoint, failure, facts.members.is_empty());
        }
    }
    placement::proxies(&mut found, facts);
    if !facts.members.is_empty() {
        placement::one_host(&mut found, facts);
        // Without a majority there is no leader either.
        if quorum(&mut found, facts) {
            leaders(&mut found, facts);
        }
        versions(&mut found, facts);
        for member in &facts.members {
            presence(&mut found, facts, member);
        }
        alarms::alarms(&mut found, facts);
        let newest = facts.statuses().map(|(_, status)| status.applied).max();
        for (member, status) in facts.statuses() {
            lag(&mut found, member, status, newest.unwrap_or(0));
            space(&mut found, member, status);
            host(&mut found, member, status);
            backups::backups(&mut found, member, status);
        }
    }
    let mut all = found.0;
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    all
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        check: &'static str,
        member: Option<&MemberFacts>,
        fault: String,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding {
            severity,
            check,
            member: member.map(MemberFacts::label),
            fault,
            remedy: remedy.into(),
        });
    }
}

fn endpoint_fails(found: &mut Findings, endpoint: &str, failure: &str, all_fail: bool) {
    let severity = if all_fail { Critical } else { Warning };
    let remedy = match all_fail {
        true => {
            "start the members, or check --endpoints, the TLS flags and --user. A proxy answers so \
             while no member can be reached from its host"
        }
        false => "check that it runs and that this host may connect to it",
    };
    let fault = format!("{endpoint} does not list the members: {failure}");
    found.add(severity, "endpoint", None, fault, remedy);
}

/// What is left of the majority. Returns whether there is one.
fn quorum(found: &mut Findings, facts: &Facts) -> bool {
    let voters = facts.voters().count();
    let running = facts.voters().filter(|member| member.runs()).count();
    let majority = voters / 2 + 1;
    if running < majority {
        let fault = format!(
            "{running} of {voters} voters answer, and {majority} are needed: nothing can be written"
        );
        let remedy = format!(
            "start {} of the voters that do not answer. If their disks are lost: start one of the \
             others with --force-new-cluster, or restore a backup",
            majority - running
        );
        found.add(Critical, "quorum", None, fault, remedy);
        return false;
    }
    if !facts.confirmed {
        let fault =
            "the members could not be read with a quorum, though most answer here".to_owned();
        let remedy =
            "check the peer port (2380) between the members: firewall, TLS, --listen-peer-urls";
        found.add(Critical, "quorum", None, fault, remedy);
    }
    if voters == 1 {
        let fault = "one voter: its loss is the loss of all data since the last backup".to_owned();
        found.add(
            Warning,
            "redundancy",
            None,
            fault,
            "add members up to three or five",
        );
    } else if running == majority {
        let fault = format!("{running} of {voters} voters answer: one more fault stops all writes");
        let remedy = match voters % 2 {
            0 if running == voters => "use an odd number of voters: add or remove one",
            _ if voters == 2 => "add a third member",
            _ => "start or replace the voters that do not answer",
        };
        let severity = if running == voters { Warning } else { Critical };
        found.add(severity, "redundancy", None, fault, remedy);
    } else if voters.is_multiple_of(2) {
        let fault = format!(
            "{voters} voters survive no more faults than {} do",
            voters - 1
        );
        found.add(Warning, "redundancy", None, fault, "add or remove a voter");
    }
    true
}

/// Whether the members agree on a leader.
fn leaders(found: &mut Findings, facts: &Facts) {
    let newest = facts.statuses().map(|(_, status)| status.term).max();
    let mut leaders: Vec<u64> = vec![];
    for (member, status) in facts.statuses() {
        if status.leader == 0 {
            let fault = "it has no leader".to_owned();
            let remedy = "check its peer port towards the other members; during an election this \
                          passes within seconds";
            found.add(Critical, "leader", Some(member), fault, remedy);
        } else if Some(status.term) == newest && !leaders.contains(&status.leader) {
            leaders.push(status.leader);
        }
    }
    if 1 < leaders.len() {
        let ids: Vec<_> = leaders.iter().map(|id| format!("{id:x}")).collect();
        let fault = format!("members name different leaders: {}", ids.join(", "));
        let remedy = "repeat this command: while leadership moves this passes at once";
        found.add(Critical, "leader", None, fault, remedy);
    }
}

fn versions(found: &mut Findings, facts: &Facts) {
    let mut versions: Vec<&str> = facts
        .statuses()
        .map(|(_, status)| &*status.version)
        .collect();
    versions.sort_unstable();
    versions.dedup();
    if 1 < versions.len() {
        let fault = format!("members run different versions: {}", versions.join(", "));
        found.add(Warning, "version", None, fault, "finish the upgrade");
    }
}

/// Whether a member runs, where its list entry places it.
fn presence(found: &mut Findings, facts: &Facts, member: &MemberFacts) {
    let urls = member.client_urls.join(", ");
    match &member.answer {
        Presence::NotStarted => {
            let fault = "it was added and never started; it counts for the majority".to_owned();
            let remedy = format!("start it, or `etcdctl member remove {:x}`", member.id);
            found.add(Warning, "member", Some(member), fault, remedy);
        }
        Presence::None(reason) => {
            let fault = format!("it does not answer at {urls}: {reason}");
            let remedy = format!(
                "start it. If its disk is lost: `keelson replace {}`",
                member.label()
            );
            found.add(Warning, "member", Some(member), fault, remedy);
        }
        Presence::Other { url, id } => {
            let fault = format!("its client URL {url} leads to another member ({id:x})");
            let remedy = "set its --advertise-client-urls to an address of its own host";
            found.add(Warning, "member", Some(member), fault, remedy);
        }
        Presence::Refused(text) => {
            let fault = format!("it refuses its status: {text}");
            found.add(
                Warning,
                "member",
                Some(member),
                fault,
                "use --user with a user of the cluster",
            );
        }
        Presence::Status(_) if member.is_learner => {
            let fault = "it is a learner: it gets the log and does not vote".to_owned();
            let remedy = format!(
                "once it is in sync: `etcdctl member promote {:x}`",
                member.id
            );
            found.add(Warning, "learner", Some(member), fault, remedy);
        }
        Presence::Status(_) => {}
    }
    let loopback = |url: &String| {
        ["//127.", "//localhost", "//[::1]"]
            .iter()
            .any(|at| url.contains(at))
    };
    let some_elsewhere = facts
        .members
        .iter()
        .flat_map(|one| &one.client_urls)
        .any(|url| !loopback(url));
    if some_elsewhere && !urls.is_empty() && member.client_urls.iter().all(loopback) {
        let fault = format!("it advertises {urls}, which no other host reaches");
        let remedy = "set its --advertise-client-urls to an address of its host";
        found.add(Warning, "advertised", Some(member), fault, remedy);
    }
}

fn lag(found: &mut Findings, member: &MemberFacts, status: &MemberStatus, newest: u64) {
    let behind = newest.saturating_sub(status.applied);
    if BEHIND_ENTRIES <= behind {
        let fault = format!("it is {behind} entries behind");
        let remedy = "check its disk, its processor and its network; it catches up by itself when \
                      they keep up";
        found.add(Warning, "lag", Some(member), fault, remedy);
    }
}

fn space(found: &mut Findings, member: &MemberFacts, status: &MemberStatus) {
    let share = status.db_in_use as f64 / status.quota as f64;
    if 0 < status.quota && QUOTA_WARNING <= share {
        let severity = if share < QUOTA_CRITICAL {
            Warning
        } else {
            Critical
        };
        let fault = format!(
            "{:.0} % of its space quota is in use ({} of {} MB)",
            share * 100.0,
            status.db_in_use >> 20,
            status.quota >> 20
        );
        let remedy = "compact (`etcdctl compact`, --auto-compaction-retention), delete what is not \
                      needed, or raise --quota-backend-bytes";
        found.add(severity, "space", Some(member), fault, remedy);
    }
}

/// The time for a status, disk, clock, certificates, descriptors.
fn host(found: &mut Findings, member: &MemberFacts, status: &MemberStatus) {
    if SLOW_ANSWER <= status.took {
        let fault = format!("its status took {:.1} s", status.took.as_secs_f64());
        let remedy = "check its processor, and the network to it; elections may fail as well";
        found.add(Warning, "latency", Some(member), fault, remedy);
    }
    if let Some(p99) = status.metrics.fsync_p99.filter(|p99| FSYNC_SECONDS < *p99) {
        let fault = match p99.is_finite() {
            true => format!(
                "its disk is slow: 1 of 100 fsyncs takes {:.0} ms or more",
                p99 * 500.0
            ),
            false => "its disk is very slow: 1 of 100 fsyncs takes more than 8 s".to_owned(),
        };
        let remedy = "give its --data-dir (or --wal-dir) a disk that it does not share";
        found.add(Warning, "disk", Some(member), fault, remedy);
    }
    if let Some((seconds, error)) = status.skew
        && SKEW_SECONDS < seconds.abs() - error
    {
        let fault = format!("its clock differs from this host's by about {seconds:+.0} s");
        found.add(
            Warning,
            "clock",
            Some(member),
            fault,
            "run an NTP client on both hosts",
        );
    }
    if let Some(days) = status
        .metrics
        .certificate_days
        .filter(|days| *days < CERTIFICATE_WARNING)
    {
        let severity = if days < CERTIFICATE_CRITICAL {
            Critical
        } else {
            Warning
        };
        let fault = match days <= 0.0 {
            true => "a certificate of it has expired".to_owned(),
            false => format!("a certificate of it expires in {days:.0} days"),
        };
        let remedy = "put renewed files in place of the old ones; no restart is needed";
        found.add(severity, "certificate", Some(member), fault, remedy);
    }
    if let Some((open, max)) = status.metrics.descriptors
        && DESCRIPTORS_SHARE * max < open
    {
        let fault = format!("{open:.0} of {max:.0} file descriptors are open");
        found.add(
            Warning,
            "descriptors",
            Some(member),
            fault,
            "raise its limit (LimitNOFILE=)",
        );
    }
}

#[cfg(test)]
mod tests;
