//! The log lines of etcd's Raft, in etcd's words: scripts and dashboards match them.

use keelson_core::MemberId;
use keelson_core::node::{Role, SoftState};

/// The lines for a change of role, term or leader, in etcd's order.
pub(super) fn lines(me: MemberId, before: SoftState, now: SoftState) -> Vec<String> {
    let term = now.term.0;
    let mut lines = Vec::new();
    if (before.role, before.term) != (now.role, now.term) {
        let role = match now.role {
            Role::Leader => "leader",
            // A pre-candidate keeps its term.
            Role::Candidate if before.term == now.term => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Follower => "follower",
        };
        lines.push(format!("{me} became {role} at term {term}"));
    }
    let (old, new) = (before.leader, now.leader);
    if old != new {
        let what = match (old, new) {
            (MemberId::NONE, new) => format!("elected leader {new}"),
            (old, MemberId::NONE) => format!("lost leader {old}"),
            (old, new) => format!("changed leader from {old} to {new}"),
        };
        lines.push(format!("raft.node: {me} {what} at term {term}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use keelson_core::Term;

    use super::*;

    fn soft_state(role: Role, term: u64, leader: u64) -> SoftState {
        SoftState {
            leader: MemberId(leader),
            role,
            term: Term(term),
        }
    }

    /// The texts were recorded from etcd 3.4.23's log.
    #[test]
    fn the_lines_of_a_term_are_etcds() {
        let steps = [
            soft_state(Role::Follower, 1, 0),
            soft_state(Role::Candidate, 1, 0),
            soft_state(Role::Candidate, 2, 0),
            soft_state(Role::Leader, 2, 0xa),
            soft_state(Role::Follower, 3, 0xb),
            soft_state(Role::Follower, 3, 0),
        ];
        let logged: Vec<_> = steps
            .windows(2)
            .flat_map(|pair| lines(MemberId(0xa), pair[0], pair[1]))
            .collect();
        assert_eq!(
            logged,
            [
                "a became pre-candidate at term 1",
                "a became candidate at term 2",
                "a became leader at term 2",
                "raft.node: a elected leader a at term 2",
                "a became follower at term 3",
                "raft.node: a changed leader from a to b at term 3",
                "raft.node: a lost leader b at term 3",
            ]
        );
    }
}
