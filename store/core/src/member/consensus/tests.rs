//! One member's consensus, step by step: proposals, forwarded requests, reads and captures.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcdserverpb::{Member, PutRequest};
use keelson_proto::internal::{AppliedMark, Command, ConfState, command::Op};
use keelson_proto::peer::{Forward, RaftSnapshotMeta, ReadIndexResponse};
use prost::Message;

use super::*;
use crate::engine::MemoryEngine;
use crate::node::{APPEND, NodeConfig, Restored};
use crate::proposal;
use crate::state::{Genesis, Limits, StateMachine};

const ME: MemberId = MemberId(1);
const CAPTURE_KEPT_MS: u64 = 1_000;

/// A member whose appends become durable at once.
struct Rig {
    consensus: Consensus,
    state: StateMachine,
    now: u64,
    persisted: Option<u64>,
}

impl Rig {
    /// The only voter, which leads.
    fn new() -> Rig {
        let mut rig = Rig::of(&[ME]);
        for _ in 0..1_000 {
            rig.step(Vec::new());
            let status = rig.consensus.status();
            if status.soft_state.leader == ME && status.committed == status.last {
                return rig;
            }
        }
        panic!("it does not lead");
    }

    fn of(voters: &[MemberId]) -> Rig {
        let applied = AppliedMark {
            index: 1,
            term: 1,
            conf_state: Some(ConfState {
                voters: voters.iter().map(|id| id.0).collect(),
                ..ConfState::default()
            }),
            hash: None,
        };
        let member = |id: &MemberId| Member {
            id: id.0,
            ..Member::default()
        };
        let genesis = Genesis {
            members: voters.iter().map(member).collect(),
            mark: applied.clone(),
            ..Genesis::default()
        };
        let engine = Arc::new(MemoryEngine::new());
        let state = StateMachine::create(engine, genesis, Limits::default());
        let state = state.expect("an empty engine");
        let restored = Restored {
            log_start: LastIncluded::from(&applied),
            roster: state.view().roster(),
            applied,
            ..Restored::default()
        };
        let (node, _) = Node::new(NodeConfig::new(ME, 1), restored).expect("a fresh node");
        Rig {
            consensus: Consensus::new(node, CAPTURE_KEPT_MS),
            state,
            now: 0,
            persisted: None,
        }
    }

    fn step(&mut self, mut events: Vec<ConsensusEvent>) -> ConsensusEffects {
        self.now += 10;
        let persisted = self.persisted.take();
        events.extend(persisted.map(|number| ConsensusEvent::Input(Input::Persisted { number })));
        let effects = self.consensus.handle(Millis(self.now), events);
        self.persisted = effects.append.as_ref().map(|append| append.number);
        effects
    }
}

fn id(counter: u64) -> ProposalId {
    ProposalId {
        member: ME,
        incarnation: 1,
        counter,
    }
}

fn propose(counter: u64) -> ConsensusEvent {
    let op = Some(Op::Put(PutRequest::default()));
    let command = Command { op }.encode_to_vec().into();
    let id = id(counter);
    ConsensusEvent::Input(Input::Propose { id, command })
}

fn proposed(effects: &ConsensusEffects) -> Vec<ProposalId> {
    let entries = effects.append.iter().flat_map(|append| &append.entries);
    let requests = entries.filter_map(|entry| proposal::decode(&entry.data));
    requests.map(|(id, _)| id).collect()
}

#[test]
fn a_request_whose_client_left_before_its_turn_is_not_proposed() {
    let mut rig = Rig::new();
    let cancelled = ConsensusEvent::Input(Input::ProposalCancelled { id: id(2) });
    let effects = rig.step(vec![propose(1), propose(2), cancelled, propose(3)]);
    assert_eq!(proposed(&effects), [id(1), id(3)]);
}

/// A command that this release cannot apply, and one for which there was no room.
#[test]
fn requests_of_peers_that_are_not_taken_are_refused() {
    let mut rig = Rig::new();
    let peer = MemberId(2);
    let request = |counter| peer::ProposalId {
        member: peer.0,
        boot: 1,
        counter,
    };
    let forward = Forward {
        id: Some(request(1)),
        command: Bytes::from_static(&[0xf2, 0x3f, 0x02, 0x08, 0x01]),
        ..Forward::default()
    };
    let message = PeerMessage {
        message: Some(peer_message::Message::Forward(forward)),
    };
    let crowded = ConsensusEvent::ForwardsRejected(peer, vec![request(2)]);
    let effects = rig.step(vec![ConsensusEvent::Peer(peer, vec![message]), crowded]);
    assert!(proposed(&effects).is_empty());
    let refusals = effects.send.iter().map(|(to, message)| {
        let Some(peer_message::Message::Refused(refused)) = &message.message else {
            panic!("{message:?}");
        };
        assert_eq!((*to, refused.reason()), (peer, Reason::TooManyRequests));
        refused.id.expect("it names the request")
    });
    assert_eq!(refusals.collect::<Vec<_>>(), [request(1), request(2)]);
}

/// It was cancelled before it reached the applier, and was kept until its index was applied.
#[test]
fn a_read_that_is_answered_and_cancelled_in_one_step_is_cancelled_last() {
    let leader = MemberId(2);
    let mut rig = Rig::of(&[ME, leader]);
    let from_leader = |message| {
        let message = Some(message);
        ConsensusEvent::Peer(leader, vec![PeerMessage { message }])
    };
    let heartbeat = RaftMessage {
        kind: APPEND,
        to: ME.0,
        from: leader.0,
        term: 2,
        log_term: 1,
        index: 1,
        ..RaftMessage::default()
    };
    let read = ConsensusEvent::Input(Input::Read { context: 7 });
    let known = from_leader(peer_message::Message::Raft(heartbeat));
    let sent = rig.step(vec![known, read]).send;
    let request = sent
        .into_iter()
        .find_map(|(_, message)| match message.message {
            Some(peer_message::Message::ReadIndexRequest(request)) => Some(request),
            _ => None,
        });
    let request = request.expect("a read index request");
    let answer = ReadIndexResponse {
        context: request.context,
        boot: request.boot,
        index: 1,
    };
    let answered = from_leader(peer_message::Message::ReadIndexResponse(answer));
    let cancelled = ConsensusEvent::Input(Input::ReadCancelled { context: 7 });
    let work = rig.step(vec![answered, cancelled]).work;
    let [
        ApplierEvent::Read(read),
        ApplierEvent::ReadCancelled { context },
    ] = work[..]
    else {
        panic!("{work:?}");
    };
    assert_eq!((read.context, context), (7, 7));
}

fn offer(rig: &Rig, index: u64) -> (MemberId, RaftMessage) {
    let offer = RaftMessage {
        from: ME.0,
        to: 2,
        term: rig.consensus.status().soft_state.term.0,
        snapshot: Some(RaftSnapshotMeta {
            index,
            ..RaftSnapshotMeta::default()
        }),
        ..RaftMessage::default()
    };
    (MemberId(2), offer)
}

/// A capture holds compaction back.
#[test]
fn a_capture_is_kept_while_followers_are_sent_it() {
    let mut rig = Rig::new();
    let capture = rig.state.capture().expect("memory does not fail");
    let index = capture.mark().index;
    rig.step(vec![ConsensusEvent::Captured(capture)]);
    let mut effects = ConsensusEffects::default();
    for _ in 0..3 {
        rig.now += CAPTURE_KEPT_MS - 20;
        let (to, offer) = offer(&rig, index);
        let now = Millis(rig.now);
        rig.consensus.send_snapshot(now, to, offer, &mut effects);
        rig.step(Vec::new());
    }
    assert_eq!(effects.snapshots.len(), 3);
    rig.now += CAPTURE_KEPT_MS;
    rig.step(Vec::new());
    assert!(rig.consensus.capture.is_none(), "it is released");
}

/// The offer refers to a capture that was released: the transfer fails at once.
#[test]
fn a_snapshot_without_its_capture_is_reported_at_once() {
    let mut rig = Rig::new();
    let (to, offer) = offer(&rig, 5);
    let mut effects = ConsensusEffects::default();
    let now = Millis(rig.now);
    rig.consensus.send_snapshot(now, to, offer, &mut effects);
    assert!(effects.snapshots.is_empty());
    let [Input::SnapshotSent { to, ok: false }] = rig.consensus.inputs[..] else {
        panic!("{:?}", rig.consensus.inputs);
    };
    assert_eq!(to, MemberId(2));
}
