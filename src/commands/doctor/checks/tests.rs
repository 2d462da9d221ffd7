//! Findings from facts: each fault alone, and those of the majority together.

use super::super::facts::MetricFacts;
use super::super::finding::Verdict;
use super::super::report;
use super::*;

fn member(id: u64, answer: Presence) -> MemberFacts {
    MemberFacts {
        id,
        name: format!("m{id}"),
        client_urls: vec![format!("http://10.0.0.{id}:2379")],
        is_learner: false,
        answer,
    }
}

fn status() -> MemberStatus {
    MemberStatus {
        version: "3.5.21".to_owned(),
        leader: 1,
        term: 2,
        applied: 100,
        db_in_use: 1 << 20,
        quota: 2 << 30,
        ..MemberStatus::default()
    }
}

fn answers(status: MemberStatus) -> Presence {
    Presence::Status(Box::new(status))
}

fn silent() -> Presence {
    Presence::None("connection refused".to_owned())
}

/// A cluster whose members all answer, but for those that `change` alters.
fn cluster(size: u64, change: impl Fn(&mut Facts)) -> Facts {
    let mut facts = Facts {
        endpoints: vec![("http://10.0.0.1:2379".to_owned(), None)],
        members: (1..=size).map(|id| member(id, answers(status()))).collect(),
        proxies: Vec::new(),
        confirmed: true,
    };
    change(&mut facts);
    facts
}

/// The checks that found something, with the members.
fn found(facts: &Facts) -> Vec<(Severity, &'static str, Option<String>)> {
    let found = diagnose(facts).into_iter();
    found
        .map(|one| (one.severity, one.check, one.member))
        .collect()
}

fn at(
    severity: Severity,
    check: &'static str,
    id: u64,
) -> (Severity, &'static str, Option<String>) {
    (severity, check, Some(format!("m{id}")))
}

#[test]
fn complete_clusters_are_healthy() {
    for size in [3, 5, 7] {
        let facts = cluster(size, |_| ());
        assert_eq!(diagnose(&facts), [], "{size} members");
        assert_eq!(
            report::text(&facts, &[]),
            format!("healthy: {size} of {size} members answer, leader m1\n")
        );
    }
}

#[test]
fn what_is_left_of_the_majority_decides_the_verdict() {
    let cases = [
        // (members, silent, verdict)
        (5, 1, Verdict::Warning),
        (5, 2, Verdict::Critical),
        (5, 3, Verdict::Critical),
        (3, 1, Verdict::Critical),
        (1, 0, Verdict::Warning),
        (2, 0, Verdict::Warning),
        (4, 0, Verdict::Warning),
    ];
    for (size, dead, expected) in cases {
        let facts = cluster(size, |facts| {
            for member in facts.members.iter_mut().rev().take(dead) {
                member.answer = silent();
            }
        });
        let findings = diagnose(&facts);
        assert_eq!(Verdict::of(&findings), expected, "{size}, {dead} silent");
        let silent = findings.iter().filter(|one| one.check == "member").count();
        assert_eq!(silent, dead);
        let lost = findings.iter().any(|one| one.check == "quorum");
        assert_eq!(lost, size / 2 < dead as u64, "{size}, {dead} silent");
    }
}

#[test]
fn the_remedy_for_a_silent_member_names_it() {
    let facts = cluster(5, |facts| facts.members[2].answer = silent());
    let [finding] = &diagnose(&facts)[..] else {
        panic!("{:?}", diagnose(&facts));
    };
    assert!(
        finding.remedy.contains("`keelson replace m3`"),
        "{finding:?}"
    );
}

#[test]
fn learners_do_not_count_for_the_majority() {
    let facts = cluster(4, |facts| {
        facts.members[3].is_learner = true;
        facts.members[3].name = String::new();
        facts.members[3].answer = Presence::NotStarted;
    });
    assert_eq!(found(&facts), [(Warning, "member", Some("4".to_owned()))]);
    let facts = cluster(4, |facts| facts.members[3].is_learner = true);
    assert_eq!(found(&facts), [at(Warning, "learner", 4)]);
}

type Change = fn(&mut MemberStatus);

#[test]
fn each_fault_of_a_member_is_found_there() {
    let cases: [(Change, Severity, &str); 12] = [
        (|one| one.took = Duration::from_secs(2), Warning, "latency"),
        (|one| one.leader = 0, Critical, "leader"),
        (|one| one.leader = 3, Critical, "leader"),
        (|one| one.version = "3.4.23".into(), Warning, "version"),
        (
            |one| one.errors = vec!["memberID:2 alarm:NOSPACE ".into()],
            Critical,
            "alarm",
        ),
        (
            |one| one.errors = vec!["memberID:2 alarm:CORRUPT ".into()],
            Critical,
            "alarm",
        ),
        (|one| one.db_in_use = 1_800_000_000, Warning, "space"),
        (|one| one.db_in_use = 2_100_000_000, Critical, "space"),
        (|one| one.skew = Some((-3.0, 0.6)), Warning, "clock"),
        (|one| one.metrics.fsync_p99 = Some(0.128), Warning, "disk"),
        (
            |one| one.metrics.certificate_days = Some(12.0),
            Warning,
            "certificate",
        ),
        (
            |one| one.metrics.descriptors = Some((900.0, 1024.0)),
            Warning,
            "descriptors",
        ),
    ];
    for (number, (change, severity, check)) in cases.into_iter().enumerate() {
        let facts = cluster(3, |facts| {
            let mut changed = status();
            change(&mut changed);
            facts.members[1].answer = answers(changed);
        });
        let found = diagnose(&facts);
        let [finding] = &found[..] else {
            panic!("case {number}: {found:?}");
        };
        assert_eq!(
            (finding.severity, finding.check),
            (severity, check),
            "case {number}"
        );
        if let Some(member) = &finding.member {
            assert_eq!(member, "m2", "case {number}");
        }
    }
}

#[test]
fn what_is_within_bounds_is_no_finding() {
    let cases: [Change; 6] = [
        (|one| one.db_in_use = 1_700_000_000),
        (|one| one.skew = Some((1.4, 0.6))),
        (|one| one.applied = 4_000),
        (|one| one.quota = 0),
        (|one| one.metrics.fsync_p99 = Some(0.016)),
        (|one| {
            one.metrics = MetricFacts {
                certificate_days: Some(90.0),
                ..MetricFacts::default()
            }
        }),
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let facts = cluster(3, |facts| {
            let mut changed = status();
            change(&mut changed);
            facts.members[1].answer = answers(changed);
        });
        assert_eq!(diagnose(&facts), [], "case {number}");
    }
}

#[test]
fn an_alarm_of_all_members_is_one_finding() {
    let facts = cluster(3, |facts| {
        for member in &mut facts.members {
            let errors = vec!["memberID:2 alarm:NOSPACE ".to_owned()];
            member.answer = answers(MemberStatus { errors, ..status() });
        }
    });
    assert_eq!(found(&facts), [at(Critical, "alarm", 2)]);
}

#[test]
fn a_member_that_lags_is_named() {
    let facts = cluster(3, |facts| {
        for member in &mut facts.members[1..] {
            member.answer = answers(MemberStatus {
                applied: 90_000,
                ..status()
            });
        }
    });
    assert_eq!(found(&facts), [at(Warning, "lag", 1)]);
}

#[test]
fn members_that_other_hosts_do_not_reach_are_named() {
    let facts = cluster(3, |facts| {
        facts.members[1].client_urls = vec!["http://localhost:2379".to_owned()];
    });
    assert_eq!(found(&facts), [at(Warning, "advertised", 2)]);
    // On one host, as in the playground, they are reached.
    let facts = cluster(3, |facts| {
        for member in &mut facts.members {
            member.client_urls = vec![format!("http://127.0.0.1:{}", member.id)];
        }
    });
    assert_eq!(found(&facts), []);
}

#[test]
fn without_an_endpoint_the_verdict_is_critical() {
    let facts = Facts {
        endpoints: vec![(
            "http://a:1".to_owned(),
            Some("connection refused".to_owned()),
        )],
        ..Facts::default()
    };
    let findings = diagnose(&facts);
    assert_eq!(Verdict::of(&findings), Verdict::Critical);
    let text = report::text(&facts, &findings);
    assert!(
        text.contains("http://a:1 does not list the members: connection refused"),
        "{text}"
    );
    assert!(
        text.ends_with("critical: 1 to mend now, 0 later; no member was found\n"),
        "{text}"
    );
    // One of two is enough.
    let facts = cluster(3, |facts| {
        facts
            .endpoints
            .push(("http://a:1".to_owned(), Some("timeout".to_owned())));
    });
    assert_eq!(found(&facts), [(Warning, "endpoint", None)]);
}

#[test]
fn a_proxy_without_members_is_named() {
    let facts = cluster(3, |facts| {
        facts.proxies = vec![("http://a:1".to_owned(), 0), ("http://b:1".to_owned(), 2)];
    });
    assert_eq!(found(&facts), [(Critical, "proxy", None)]);
    assert!(diagnose(&facts)[0].fault.contains("http://a:1"));
}

#[test]
fn voters_on_one_host_are_one_point_of_failure() {
    let on_one_host = |size, ids: &[u64]| {
        cluster(size, |facts| {
            for id in ids {
                let at = usize::try_from(*id).unwrap() - 1;
                facts.members[at].client_urls = vec![format!("https://10.0.0.9:{}", 2379 + id)];
            }
        })
    };
    let facts = on_one_host(3, &[1, 3]);
    assert_eq!(found(&facts), [(Warning, "placement", None)]);
    let fault = &diagnose(&facts)[0].fault;
    assert!(
        fault.contains("2 of 3 voters") && fault.contains("(m1, m3)"),
        "{fault}"
    );
    // Three of five are left.
    assert_eq!(found(&on_one_host(5, &[1, 3])), []);
    assert_eq!(
        found(&on_one_host(5, &[1, 3, 4])),
        [(Warning, "placement", None)]
    );
}

#[test]
fn json_has_the_verdict_and_the_findings() {
    let facts = cluster(5, |facts| facts.members[4].answer = silent());
    let findings = diagnose(&facts);
    let json: serde_json::Value = serde_json::from_str(&report::json(&facts, &findings)).unwrap();
    assert_eq!(json["verdict"], "warning");
    assert_eq!(json["leader"], "m1");
    assert_eq!(json["answering"], 4);
    assert_eq!(json["findings"][0]["severity"], "warning");
    assert_eq!(json["findings"][0]["member"], "m5");
}
