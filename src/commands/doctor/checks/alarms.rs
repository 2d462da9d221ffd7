//! What the members state as wrong themselves: the cluster's alarms, and their own faults.
//!
//! The alarms are the cluster's, and every member lists all of them, so a status that has one says
//! nothing about its own member.

use super::super::facts::{Facts, MemberFacts};
use super::super::finding::Severity::*;
use super::Findings;

/// What one text of a status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stated {
    /// An alarm of the cluster; 0 for no member.
    Alarm {
        member: u64,
        kind: AlarmKind,
    },
    /// The member has no leader, which has a check of its own.
    NoLeader,
    /// The member's own state is not the majority's: it is fenced.
    Differs,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AlarmKind {
    NoSpace,
    Corrupt,
    Other,
}

impl Stated {
    /// Parses a text: an alarm is `memberID:N alarm:KIND`, both optional, the id in decimal digits.
    fn parse(text: &str) -> Stated {
        let (mut member, mut kind) = (0, None);
        for word in text.split_whitespace() {
            if let Some(id) = word.strip_prefix("memberID:") {
                member = id.parse().unwrap_or(0);
            } else if let Some(name) = word.strip_prefix("alarm:") {
                kind = Some(match name {
                    "NOSPACE" => AlarmKind::NoSpace,
                    "CORRUPT" => AlarmKind::Corrupt,
                    _ => AlarmKind::Other,
                });
            }
        }
        match kind {
            Some(kind) => Stated::Alarm { member, kind },
            None if text.contains("no leader") => Stated::NoLeader,
            None if text.contains("differs from the majority's") => Stated::Differs,
            None => Stated::Unknown,
        }
    }
}

/// Each alarm once, at the member that it names, and each member's own faults.
pub(super) fn alarms(found: &mut Findings, facts: &Facts) {
    let mut reported: Vec<Stated> = Vec::new();
    for (member, status) in facts.statuses() {
        for text in status.errors.iter().map(|text| text.trim()) {
            match Stated::parse(text) {
                Stated::NoLeader => {}
                Stated::Differs => fenced(found, member),
                Stated::Unknown => {
                    found.add(
                        Critical,
                        "alarm",
                        Some(member),
                        text.to_owned(),
                        "see its log",
                    );
                }
                alarm if reported.contains(&alarm) => {}
                Stated::Alarm { member: of, kind } => {
                    reported.push(Stated::Alarm { member: of, kind });
                    raised(found, facts, of, kind, text);
                }
            }
        }
    }
}

/// It heals by itself, and its disk holds nothing that is in the way.
fn fenced(found: &mut Findings, member: &MemberFacts) {
    let fault = "its state differs from the majority's: it serves no client".to_owned();
    let remedy = format!(
        "wait: it gets the leader's state by itself, and serves again. If it happens again: test \
         its memory and disk, then stop it, empty its data directory and `keelson replace {}`",
        member.label()
    );
    found.add(Warning, "fenced", Some(member), fault, remedy);
}

fn raised(found: &mut Findings, facts: &Facts, of: u64, kind: AlarmKind, text: &str) {
    let member = facts.members.iter().find(|member| member.id == of);
    let fault = format!("alarm: {text}");
    let remedy = match (kind, member) {
        (AlarmKind::NoSpace, _) => {
            "writes are refused. Delete what is not needed, `etcdctl compact REVISION` with the \
             revision of `etcdctl endpoint status -w json`, then `etcdctl defrag`; or raise \
             --quota-backend-bytes. The alarm ends once there is room"
                .to_owned()
        }
        (AlarmKind::Corrupt, Some(member)) => format!(
            "writes are refused. After a `keelson cutover` from this cluster that is its fence: \
             leave it. Otherwise compare the members by `etcdctl endpoint hashkv --cluster`. If \
             this one alone differs: stop it, empty its data directory and `keelson replace {}`. \
             Then `etcdctl alarm disarm`",
            member.label()
        ),
        (AlarmKind::Corrupt, None) => {
            "writes are refused, and the alarm is of no listed member. After a `keelson cutover` \
             from this cluster that is its fence, also once the member that it named is removed: \
             leave it. Otherwise compare the members by `etcdctl endpoint hashkv --cluster` before \
             anything is removed; replace the one that is wrong, if there is one, then `etcdctl \
             alarm disarm`"
                .to_owned()
        }
        (AlarmKind::Other, _) => {
            "see the members' logs; `etcdctl alarm disarm` once its cause is gone".to_owned()
        }
    };
    found.add(Critical, "alarm", member, fault, remedy);
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{MemberStatus, Presence};
    use super::super::super::finding::Finding;
    use super::*;

    /// What is found with these texts in the statuses of m1, m2 and m3.
    fn found(errors: [&[&str]; 3]) -> Vec<Finding> {
        let members = errors.iter().zip(1..).map(|(errors, id)| MemberFacts {
            id,
            name: format!("m{id}"),
            answer: Presence::Status(Box::new(MemberStatus {
                errors: errors.iter().map(ToString::to_string).collect(),
                ..MemberStatus::default()
            })),
            ..MemberFacts::default()
        });
        let facts = Facts {
            members: members.collect(),
            ..Facts::default()
        };
        let mut found = Findings::default();
        alarms(&mut found, &facts);
        found.0
    }

    /// Found: the first member that answered was to be wiped.
    #[test]
    fn an_alarm_is_reported_at_the_member_that_it_names() {
        for kind in ["CORRUPT", "NOSPACE"] {
            let text = format!("memberID:3 alarm:{kind} ");
            let all = found([&[&text]; 3]);
            let [finding] = &all[..] else {
                panic!("{all:?}");
            };
            assert_eq!(finding.member.as_deref(), Some("m3"), "{finding:?}");
            assert!(!finding.remedy.contains("m1"), "{finding:?}");
        }
    }

    /// Found: once the member that a cutover's fence names was removed, it was to be disarmed.
    #[test]
    fn the_fence_of_a_cutover_is_left() {
        for text in ["memberID:2 alarm:CORRUPT ", "memberID:9 alarm:CORRUPT "] {
            let all = found([&[text]; 3]);
            let [finding] = &all[..] else {
                panic!("{all:?}");
            };
            let remedy = &finding.remedy;
            let (fence, other) = remedy.split_once("Otherwise").unwrap();
            assert!(fence.contains("After a `keelson cutover`"), "{remedy}");
            assert!(fence.contains("leave it"), "{remedy}");
            assert!(!fence.contains("disarm"), "{remedy}");
            assert!(other.contains("disarm"), "{remedy}");
        }
    }

    #[test]
    fn an_alarm_of_no_listed_member_names_none_to_replace() {
        for text in ["alarm:CORRUPT ", "memberID:9 alarm:CORRUPT "] {
            let all = found([&[text]; 3]);
            let [finding] = &all[..] else {
                panic!("{all:?}");
            };
            assert_eq!(finding.member, None);
            let remedy = &finding.remedy;
            assert!(!remedy.contains("keelson replace"), "{remedy}");
            assert!(remedy.contains("endpoint hashkv --cluster"), "{remedy}");
        }
    }

    /// Found: one text contained the other, and was left out.
    #[test]
    fn alarms_of_one_kind_are_reported_each() {
        let texts: &[&str] = &["memberID:2 alarm:CORRUPT ", "alarm:CORRUPT "];
        let all = found([texts; 3]);
        let members: Vec<_> = all.iter().map(|one| one.member.as_deref()).collect();
        assert_eq!(members, [Some("m2"), None]);
    }

    #[test]
    fn a_member_that_heals_by_itself_is_left_alone() {
        let differs = "the state of this member differs from the majority's: before entry 9 its \
                       hash was 1, theirs 2";
        let all = found([&[], &[differs], &["etcdserver: no leader", "a fault"]]);
        let [fenced, other] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!((fenced.severity, fenced.check), (Warning, "fenced"));
        assert_eq!(fenced.member.as_deref(), Some("m2"));
        assert!(fenced.remedy.starts_with("wait: it gets"), "{fenced:?}");
        assert!(fenced.remedy.contains("`keelson replace m2`"), "{fenced:?}");
        assert_eq!(other.member.as_deref(), Some("m3"));
    }

    #[test]
    fn texts_that_are_no_alarm_have_no_member() {
        for text in ["", "memberID:7", "alarms: none", "etcdserver: no space"] {
            assert_eq!(Stated::parse(text), Stated::Unknown, "{text}");
        }
        let kind = AlarmKind::Other;
        assert_eq!(
            Stated::parse("memberID:x alarm:7"),
            Stated::Alarm { member: 0, kind }
        );
    }
}
