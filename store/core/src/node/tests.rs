//! A small cluster of nodes in memory: no network, no disk, every message delivered at once. Faults
//! are injected by the simulator, not here.

mod hostile;
mod load;
mod log_kept;
mod lost;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use keelson_proto::peer::peer_message::Message as Kind;
use keelson_proto::{internal, peer};

use super::*;
use crate::ProposalId;

mod membership;
mod paused;
mod shown_term;
mod slow_disk;

struct Cluster {
    now: u64,
    nodes: Vec<Node>,
    applied: Vec<Vec<Bytes>>,
    refused: Vec<(ProposalId, Refusal)>,
    reads: Vec<ReadReady>,
    lost: Vec<Option<LogLost>>,
    mail: VecDeque<(usize, Input)>,
    dead: Vec<usize>,
    /// Members whose log does not become durable.
    hanging: Vec<usize>,
    /// Bytes of entries sent to each member.
    sent_bytes: BTreeMap<MemberId, usize>,
    /// The durable commit index of each member.
    written_commit: Vec<Index>,
}

impl Cluster {
    fn new(count: u64) -> Cluster {
        Cluster::with(count, true)
    }

    fn with(count: u64, strict_reconfig_check: bool) -> Cluster {
        Cluster::of(count, 0, strict_reconfig_check)
    }

    /// A cluster of `voters` voters, with the lowest ids, and learners.
    fn of(voters: u64, learners: u64, strict_reconfig_check: bool) -> Cluster {
        let count = voters + learners;
        let conf_state = Some(internal::ConfState {
            voters: (1..=voters).collect(),
            learners: (voters + 1..=count).collect(),
            ..Default::default()
        });
        let applied = internal::AppliedMark {
            index: 1,
            term: 1,
            conf_state,
            hash: None,
        };
        let start = LastIncluded {
            index: Index(1),
            term: Term(1),
        };
        let mut roster = Roster::default();
        for id in 1..=count {
            let mut member = membership::member(id);
            member.is_learner = voters < id;
            roster.members.insert(id, member);
        }
        let node = |id| {
            let config = NodeConfig {
                strict_reconfig_check,
                ..NodeConfig::new(MemberId(id), 1)
            };
            let restored = Restored {
                roster: roster.clone(),
                log_start: start,
                applied: applied.clone(),
                ..Restored::default()
            };
            Node::new(config, restored).expect("a fresh node").0
        };
        let nodes: Vec<Node> = (1..=count).map(node).collect();
        Cluster {
            now: 0,
            applied: vec![Vec::new(); nodes.len()],
            nodes,
            refused: Vec::new(),
            reads: Vec::new(),
            lost: vec![None; count as usize],
            mail: VecDeque::new(),
            dead: Vec::new(),
            hanging: Vec::new(),
            sent_bytes: BTreeMap::new(),
            written_commit: vec![Index(1); count as usize],
        }
    }

    fn step(&mut self, at: usize, input: Option<Input>) {
        if self.dead.contains(&at) || self.nodes.len() <= at {
            return;
        }
        let output = self.nodes[at].step(Millis(self.now), input);
        self.carry_out(at, output);
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        let mut append = output.append.unwrap_or_default();
        if let Some(hard_state) = append.hard_state {
            self.written_commit[at] = hard_state.commit;
        }
        if append.number != 0 && !self.hanging.contains(&at) {
            self.mail.push_back((
                at,
                Input::Persisted {
                    number: append.number,
                },
            ));
        }
        if self.hanging.contains(&at) {
            append.send_after.clear();
        }
        for (to, message) in output.send.into_iter().chain(append.send_after) {
            *self.sent_bytes.entry(to).or_default() += entry_bytes(&message);
            self.mail
                .push_back((to.0 as usize - 1, arrived(at, message)));
        }
        for committed in output.apply {
            if let Some((_, command)) = super::membership::split(&committed.entry.data) {
                self.applied[at].push(command);
            }
        }
        self.refused.extend(output.refused);
        self.lost[at] = self.lost[at].or(output.lost);
        self.reads.extend(output.reads);
    }

    fn deliver(&mut self) {
        while let Some((at, input)) = self.mail.pop_front() {
            self.step(at, Some(input));
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.now += 5;
            for at in 0..self.nodes.len() {
                self.step(at, None);
            }
            self.deliver();
        }
    }

    fn leader(&self) -> usize {
        let leads = |at: &usize| {
            !self.dead.contains(at) && self.nodes[*at].status().soft_state.role == Role::Leader
        };
        (0..self.nodes.len()).find(leads).expect("a leader")
    }

    fn propose(&mut self, at: usize, counter: u64, command: &'static [u8]) {
        let (id, command) = (name(at, counter), Bytes::from_static(command));
        self.step(at, Some(Input::Propose { id, command }));
        self.deliver();
    }
}

fn name(at: usize, counter: u64) -> ProposalId {
    ProposalId {
        member: MemberId(at as u64 + 1),
        incarnation: 1,
        counter,
    }
}

fn entry_bytes(message: &peer::PeerMessage) -> usize {
    match &message.message {
        Some(Kind::Raft(raft)) => raft.entries.iter().map(|entry| entry.data.len()).sum(),
        _ => 0,
    }
}

fn arrived(from: usize, message: peer::PeerMessage) -> Input {
    match message.message.expect("a message") {
        Kind::Raft(message) => Input::Raft(message),
        Kind::Forward(forward) => Input::Forwarded(forward),
        Kind::Refused(refused) => Input::Refused(refused),
        Kind::ReadIndexRequest(request) => Input::ReadIndexRequested {
            from: MemberId(from as u64 + 1),
            request,
        },
        Kind::ReadIndexResponse(answer) => Input::ReadIndexAnswered(answer),
        Kind::LeaseRequest(_) | Kind::LeaseAnswer(_) => unreachable!("not for the node"),
        Kind::HashReport(_) | Kind::StateRequest(_) => unreachable!("not for the node"),
    }
}

#[test]
fn what_any_member_proposes_every_member_applies() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3000);
    for at in 0..3 {
        cluster.propose(at, 1, b"command");
    }
    cluster.pass(200);
    for at in 0..3 {
        assert_eq!(
            cluster.applied[at],
            vec![Bytes::from_static(b"command"); 3],
            "member {at}"
        );
    }
    assert_eq!(cluster.refused, vec![]);
}

#[test]
fn a_read_at_any_member_gets_an_index() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3000);
    cluster.propose(0, 1, b"command");
    let committed = cluster.nodes[cluster.leader()].status().committed;
    for at in 0..3 {
        cluster.step(at, Some(Input::Read { context: at as u64 }));
        cluster.deliver();
    }
    assert_eq!(cluster.reads.len(), 3);
    assert!(cluster.reads.iter().all(|read| read.index == committed));
}

#[test]
fn a_lone_member_needs_no_other() {
    let mut cluster = Cluster::new(1);
    cluster.pass(3000);
    cluster.propose(0, 1, b"command");
    cluster.step(0, Some(Input::Read { context: 9 }));
    assert_eq!(cluster.applied[0].len(), 1);
    assert_eq!(cluster.reads.len(), 1);
}

#[test]
fn a_dead_leader_is_replaced_long_before_the_timeout() {
    let mut cluster = Cluster::new(5);
    cluster.pass(3000);
    let dead = cluster.leader();
    cluster.dead.push(dead);
    for at in 0..5 {
        cluster.step(at, Some(Input::PeerDown(MemberId(dead as u64 + 1))));
    }
    cluster.deliver();
    cluster.pass(150);
    assert_ne!(cluster.leader(), dead);
}

#[test]
fn without_a_leader_a_request_is_refused_and_a_read_waits() {
    let mut cluster = Cluster::new(3);
    cluster.propose(0, 1, b"too early");
    cluster.step(0, Some(Input::Read { context: 1 }));
    assert_eq!(cluster.refused.len(), 1);
    assert_eq!(cluster.refused[0].1, Refusal::NoLeader);
    assert_eq!(cluster.reads, vec![]);
    cluster.pass(3000);
    assert_eq!(cluster.reads.len(), 1);
}

#[test]
fn a_request_that_was_with_the_dead_leader_is_refused_once_its_successor_has_committed() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3000);
    let dead = cluster.leader();
    let other = (dead + 1) % 3;
    cluster.dead.push(dead);
    cluster.propose(other, 1, b"lost with the leader");
    assert_eq!(cluster.refused, vec![]);
    cluster.pass(4000);
    assert_eq!(cluster.refused.len(), 1);
    assert_eq!(cluster.refused[0].1, Refusal::LeaderChanged);
    assert_eq!(cluster.applied[other], Vec::<Bytes>::new());
}

#[test]
fn leadership_is_transferred_on_request() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3000);
    let before = cluster.leader();
    cluster.step(before, Some(Input::TransferLeader(None)));
    cluster.deliver();
    cluster.pass(50);
    assert_ne!(cluster.leader(), before);
}

/// raft-rs does not check a term for overflow, and a member keeps each higher term that it
/// receives.
#[test]
fn a_message_of_an_unreachable_term_is_dropped() {
    let mut cluster = Cluster::new(3);
    cluster.pass(3000);
    let leader = cluster.leader();
    let term = cluster.nodes[leader].status().soft_state.term;
    for kind in [5, 8, 17] {
        for claimed in [u64::MAX, u64::MAX - 1, 1 << 60] {
            let message = peer::RaftMessage {
                kind,
                term: claimed,
                from: 2,
                to: leader as u64 + 1,
                context: Bytes::from_static(b"CampaignTransfer"),
                ..Default::default()
            };
            cluster.step(leader, Some(Input::Raft(message)));
            cluster.deliver();
        }
    }
    cluster.pass(500);
    assert_eq!(cluster.nodes[leader].status().soft_state.term, term);
    assert_eq!(cluster.leader(), leader);
}

#[test]
fn a_log_whose_end_was_lost_is_refused() {
    let restored = Restored {
        hard_state: crate::HardState {
            commit: Index(5),
            ..Default::default()
        },
        applied: internal::AppliedMark {
            index: 1,
            term: 1,
            conf_state: None,
            hash: None,
        },
        log_start: LastIncluded {
            index: Index(1),
            term: Term(1),
        },
        ..Restored::default()
    };
    let error = Node::new(NodeConfig::new(MemberId(1), 1), restored).err();
    assert_eq!(
        error,
        Some(NodeError::LogEndLost {
            last: Index(1),
            commit: Index(5)
        })
    );
}

/// The end of the log was lost, with votes and acknowledgements; the member started as if it had
/// received a snapshot.
#[test]
fn an_engine_ahead_of_the_log_is_refused_unless_a_snapshot_made_it() {
    let mark = |index, term| LastIncluded {
        index: Index(index),
        term: Term(term),
    };
    let begin = |engine_began| {
        let restored = Restored {
            applied: internal::AppliedMark {
                index: 9,
                term: 2,
                conf_state: None,
                hash: None,
            },
            log_start: mark(1, 1),
            engine_began,
            ..Restored::default()
        };
        Node::new(NodeConfig::new(MemberId(1), 1), restored).map(|(_, mark)| mark)
    };
    let lost = NodeError::LogBehindEngine {
        last: Index(1),
        applied: Index(9),
    };
    assert_eq!(begin(Some(mark(1, 1))).err(), Some(lost.clone()));
    assert_eq!(begin(Some(mark(9, 1))).err(), Some(lost));
    assert_eq!(begin(Some(mark(9, 2))).ok(), Some(Some(mark(9, 2))));
    assert_eq!(begin(None).ok(), Some(Some(mark(9, 2))));
}

/// Each start took more than an election timeout.
#[test]
fn a_lone_voter_leads_at_its_first_step() {
    for learners in [0, 2] {
        let mut cluster = Cluster::of(1, learners, true);
        cluster.step(0, None);
        assert_eq!(cluster.leader(), 0);
        cluster.deliver();
        cluster.propose(0, 1, b"command");
        assert_eq!(cluster.applied[0], [Bytes::from_static(b"command")]);
    }
    let mut cluster = Cluster::new(2);
    cluster.step(0, None);
    assert_eq!(cluster.nodes[0].status().soft_state.role, Role::Follower);
}

/// A crash in between would let it begin the same term twice, with different entries.
#[test]
fn a_lone_voter_sends_nothing_of_a_term_that_is_not_durable() {
    let mut cluster = Cluster::of(1, 1, true);
    let mut numbers = Vec::new();
    let mut durable_term = Term(1);
    while cluster.nodes[0].status().soft_state.role != Role::Leader || numbers.is_empty() {
        cluster.now += 100;
        let output = cluster.nodes[0].step(Millis(cluster.now), None);
        assert!(output.send.is_empty(), "sent {:?}", output.send);
        if let Some(append) = output.append {
            numbers.push(append.number);
            durable_term = append.hard_state.map_or(durable_term, |state| state.term);
        }
    }
    assert!(Term(1) < durable_term, "the term is on its way to the log");
    // More steps change nothing as long as the disk is busy.
    cluster.now += 100;
    let output = cluster.nodes[0].step(Millis(cluster.now), None);
    assert!(output.send.is_empty(), "sent {:?}", output.send);
    let number = numbers.pop().expect("something was written");
    let number = output.append.map_or(number, |append| append.number);
    cluster.step(0, Some(Input::Persisted { number }));
    cluster.pass(200);
    cluster.propose(0, 1, b"command");
    cluster.pass(200);
    assert_eq!(cluster.applied[1], [Bytes::from_static(b"command")]);
}
