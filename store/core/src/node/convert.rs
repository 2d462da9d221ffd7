//! Conversion between raft-rs's types and ours.
//!
//! raft-rs depends on rust-protobuf 2.28, whose parser recurses without bound (RUSTSEC-2024-0437).
//! Bytes from the network are therefore parsed by prost into `peer::RaftMessage`, and only this
//! file converts that to raft-rs's `Message`, field by field.

use keelson_proto::{internal, peer};
use raft::eraftpb;

use crate::{Entry, EntryKind, HardState, Index, MemberId, Term};

/// Every message type, indexed by its number in raft-rs.
const KINDS: [eraftpb::MessageType; 19] = [
    eraftpb::MessageType::MsgHup,
    eraftpb::MessageType::MsgBeat,
    eraftpb::MessageType::MsgPropose,
    eraftpb::MessageType::MsgAppend,
    eraftpb::MessageType::MsgAppendResponse,
    eraftpb::MessageType::MsgRequestVote,
    eraftpb::MessageType::MsgRequestVoteResponse,
    eraftpb::MessageType::MsgSnapshot,
    eraftpb::MessageType::MsgHeartbeat,
    eraftpb::MessageType::MsgHeartbeatResponse,
    eraftpb::MessageType::MsgUnreachable,
    eraftpb::MessageType::MsgSnapStatus,
    eraftpb::MessageType::MsgCheckQuorum,
    eraftpb::MessageType::MsgTransferLeader,
    eraftpb::MessageType::MsgTimeoutNow,
    eraftpb::MessageType::MsgReadIndex,
    eraftpb::MessageType::MsgReadIndexResp,
    eraftpb::MessageType::MsgRequestPreVote,
    eraftpb::MessageType::MsgRequestPreVoteResponse,
];

/// `RaftMessage::kind` of an append.
pub const APPEND: u32 = eraftpb::MessageType::MsgAppend as u32;
/// `RaftMessage::kind` of the answer to an append.
pub const APPEND_RESPONSE: u32 = eraftpb::MessageType::MsgAppendResponse as u32;

/// `RaftMessage::kind` of the offer of a snapshot.
pub const SNAPSHOT: u32 = eraftpb::MessageType::MsgSnapshot as u32;

/// Converts a peer's message to raft-rs's type; `None` for a kind that no peer may send.
///
/// `MsgPropose` and `MsgReadIndex` are refused: raft-rs 0.7 would append a duplicated proposal
/// twice, or answer a delayed read with an old index (etcd#20418). `Forward` and `ReadIndexRequest`
/// replace them.
pub(super) fn message_from_peer(message: peer::RaftMessage) -> Option<eraftpb::Message> {
    use eraftpb::MessageType::*;
    let kind = *KINDS.get(message.kind as usize)?;
    let from_peers = matches!(
        kind,
        MsgAppend
            | MsgAppendResponse
            | MsgRequestVote
            | MsgRequestVoteResponse
            | MsgSnapshot
            | MsgHeartbeat
            | MsgHeartbeatResponse
            | MsgTimeoutNow
            | MsgRequestPreVote
            | MsgRequestPreVoteResponse
    );
    if !from_peers || message.from == 0 || message.term == 0 || !is_continuous(&message) {
        return None;
    }
    let mut converted = eraftpb::Message::default();
    converted.msg_type = kind;
    converted.to = message.to;
    converted.from = message.from;
    converted.term = message.term;
    converted.log_term = message.log_term;
    converted.index = message.index;
    let entries: Vec<_> = message.entries.into_iter().map(entry_from_peer).collect();
    converted.entries = entries.into();
    converted.commit = message.commit;
    converted.commit_term = message.commit_term;
    converted.request_snapshot = message.request_snapshot;
    converted.reject = message.reject;
    converted.reject_hint = message.reject_hint;
    converted.context = message.context;
    converted.priority = message.priority;
    if let Some(meta) = message.snapshot {
        converted.set_snapshot(snapshot_of(meta.index, meta.term, meta.conf_state));
    }
    Some(converted)
}

/// Whether the entries' indexes are consecutive after `index`. raft-rs acknowledges `index` plus
/// the number of entries and does not check the entries' own indexes.
fn is_continuous(message: &peer::RaftMessage) -> bool {
    let mut expected = message.index;
    message.entries.iter().all(|entry| {
        expected = expected.saturating_add(1);
        entry.index == expected
    })
}

/// Converts raft-rs's message to the wire's type.
pub(super) fn message_to_peer(mut message: eraftpb::Message) -> peer::RaftMessage {
    let entries = message.take_entries().into_vec();
    let snapshot = message.snapshot.take().map(|mut snapshot| {
        let mut meta = snapshot.take_metadata();
        peer::RaftSnapshotMeta {
            index: meta.index,
            term: meta.term,
            conf_state: Some(conf_state_to_ours(&meta.take_conf_state())),
        }
    });
    peer::RaftMessage {
        kind: message.msg_type as u32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.into_iter().map(entry_to_peer).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
    }
}

/// A snapshot with metadata only: the state is sent apart from it.
pub(super) fn snapshot_of(
    index: u64,
    term: u64,
    conf_state: Option<internal::ConfState>,
) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let meta = snapshot.mut_metadata();
    meta.index = index;
    meta.term = term;
    meta.set_conf_state(conf_state_to_raft(&conf_state.unwrap_or_default()));
    snapshot
}

fn entry_from_peer(entry: peer::RaftEntry) -> eraftpb::Entry {
    let mut converted = eraftpb::Entry::default();
    converted.entry_type = match entry.kind {
        0 => eraftpb::EntryType::EntryNormal,
        _ => eraftpb::EntryType::EntryConfChangeV2,
    };
    converted.term = entry.term;
    converted.index = entry.index;
    converted.data = entry.data;
    converted.context = entry.context;
    converted
}

fn entry_to_peer(entry: eraftpb::Entry) -> peer::RaftEntry {
    peer::RaftEntry {
        kind: match entry.entry_type {
            eraftpb::EntryType::EntryNormal => 0,
            _ => 2,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
    }
}

/// Converts raft-rs's entry to the crate's.
pub(super) fn entry_to_ours(entry: &eraftpb::Entry) -> Entry {
    Entry {
        index: Index(entry.index),
        term: Term(entry.term),
        kind: match entry.entry_type {
            eraftpb::EntryType::EntryNormal => EntryKind::Command,
            _ => EntryKind::Membership,
        },
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

/// Converts the crate's entry to raft-rs's.
pub(super) fn entry_to_raft(entry: Entry) -> eraftpb::Entry {
    let mut converted = eraftpb::Entry::default();
    converted.entry_type = match entry.kind {
        EntryKind::Command => eraftpb::EntryType::EntryNormal,
        EntryKind::Membership => eraftpb::EntryType::EntryConfChangeV2,
    };
    converted.term = entry.term.0;
    converted.index = entry.index.0;
    converted.data = entry.data;
    converted.context = entry.context;
    converted
}

pub(super) fn hard_state_to_ours(hard_state: &eraftpb::HardState) -> HardState {
    HardState {
        term: Term(hard_state.term),
        vote: MemberId(hard_state.vote),
        commit: Index(hard_state.commit),
    }
}

pub(super) fn hard_state_to_raft(hard_state: &HardState) -> eraftpb::HardState {
    let mut converted = eraftpb::HardState::default();
    converted.term = hard_state.term.0;
    converted.vote = hard_state.vote.0;
    converted.commit = hard_state.commit.0;
    converted
}

pub(super) fn conf_state_to_ours(conf_state: &eraftpb::ConfState) -> internal::ConfState {
    internal::ConfState {
        voters: conf_state.voters.clone(),
        learners: conf_state.learners.clone(),
        voters_outgoing: conf_state.voters_outgoing.clone(),
        learners_next: conf_state.learners_next.clone(),
        auto_leave: conf_state.auto_leave,
    }
}

pub(super) fn conf_state_to_raft(conf_state: &internal::ConfState) -> eraftpb::ConfState {
    let mut converted = eraftpb::ConfState::default();
    converted.voters = conf_state.voters.clone();
    converted.learners = conf_state.learners.clone();
    converted.voters_outgoing = conf_state.voters_outgoing.clone();
    converted.learners_next = conf_state.learners_next.clone();
    converted.auto_leave = conf_state.auto_leave;
    converted
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_kinds_stand_at_their_numbers() {
        for (number, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, number);
        }
    }

    #[test]
    fn a_message_survives_the_journey() {
        let mut message = eraftpb::Message::default();
        message.msg_type = eraftpb::MessageType::MsgAppend;
        message.to = 2;
        message.from = 1;
        message.term = 7;
        message.log_term = 6;
        message.index = 41;
        message.commit = 40;
        message.context = Bytes::from_static(b"context");
        let mut entry = eraftpb::Entry::default();
        entry.entry_type = eraftpb::EntryType::EntryConfChangeV2;
        entry.index = 42;
        entry.term = 7;
        entry.context = Bytes::from_static(b"change");
        message.entries = vec![entry].into();
        let conf_state = internal::ConfState {
            voters: vec![1, 2],
            ..Default::default()
        };
        message.set_snapshot(snapshot_of(9, 3, Some(conf_state)));
        assert_eq!(
            message_from_peer(message_to_peer(message.clone())),
            Some(message)
        );
    }

    #[test]
    fn entries_that_do_not_follow_the_claimed_position_are_dropped() {
        let entry = |index| peer::RaftEntry {
            index,
            term: 1,
            ..Default::default()
        };
        let append = |entries| peer::RaftMessage {
            kind: eraftpb::MessageType::MsgAppend as u32,
            to: 1,
            from: 2,
            term: 1,
            index: 152,
            entries,
            ..Default::default()
        };
        assert!(message_from_peer(append(vec![entry(153), entry(154)])).is_some());
        assert_eq!(message_from_peer(append(vec![entry(152)])), None);
        assert_eq!(
            message_from_peer(append(vec![entry(153), entry(155)])),
            None
        );
    }

    #[test]
    fn what_no_peer_may_send_is_dropped() {
        for kind in [0, 1, 2, 10, 11, 12, 13, 15, 16, 19, u32::MAX] {
            let message = peer::RaftMessage {
                kind,
                from: 1,
                term: 1,
                ..Default::default()
            };
            assert_eq!(message_from_peer(message), None, "kind {kind}");
        }
    }
}
