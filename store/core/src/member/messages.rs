//! Conversion of peers' messages to inputs of the node.

use keelson_proto::internal::{Command, command::Op};
use keelson_proto::peer::refused::Reason;
use keelson_proto::peer::{Forward, PeerMessage, ProposalId, RaftEntry, Refused, peer_message};
use prost::Message as _;

use super::{ConsensusEvent, LeaseMessage};
use crate::MemberId;
use crate::node::Input;
use crate::state::is_understood;
use crate::tree::PATH_BYTES_MAX;

/// Whether a forwarded command must not get into the log. One that this release cannot apply would
/// stop every such member, and no member of this version forwards a v2 change with an overlong
/// path.
fn is_unfit(forward: &Forward) -> bool {
    if forward.membership {
        return false;
    }
    !is_understood(&forward.command) || names_too_long_a_path(forward)
}

fn names_too_long_a_path(forward: &Forward) -> bool {
    if forward.command.len() <= PATH_BYTES_MAX {
        return false;
    }
    let command = Command::decode(forward.command.clone());
    let op = command.ok().and_then(|command| command.op);
    matches!(op, Some(Op::Tree(change)) if PATH_BYTES_MAX < change.path.len())
}

/// A forwarded request that must not get into the log.
pub(super) struct UnfitForward(pub(super) ProposalId);

/// The id of the request that a message forwards to the leader, if it does.
pub fn forwarded_id(message: &PeerMessage) -> Option<ProposalId> {
    match &message.message {
        Some(peer_message::Message::Forward(forward)) => forward.id,
        _ => None,
    }
}

/// The size of a message in memory, in bytes.
pub fn weight(message: &PeerMessage) -> usize {
    let content = match &message.message {
        Some(peer_message::Message::Raft(raft)) => {
            let entry =
                |entry: &RaftEntry| entry.data.len() + entry.context.len() + size_of::<RaftEntry>();
            raft.context.len() + raft.entries.iter().map(entry).sum::<usize>()
        }
        Some(peer_message::Message::Forward(forward)) => forward.command.len(),
        Some(peer_message::Message::LeaseRequest(request)) => size_of_val(&request.ids[..]),
        Some(peer_message::Message::LeaseAnswer(answer)) => size_of_val(&answer.times[..]),
        _ => 0,
    };
    content + size_of::<PeerMessage>()
}

/// Whether `bytes` of messages fit beside the `waiting` bytes. With nothing waiting, they always
/// do.
pub fn has_room(waiting: usize, bytes: usize, bytes_max: usize) -> bool {
    waiting == 0 || waiting + bytes <= bytes_max
}

/// The event for messages that are dropped for lack of room. Raft sends its own messages again, but
/// a request is forwarded once: without a refusal its client would wait for its timeout.
pub fn reject_forwards(from: MemberId, messages: &[PeerMessage]) -> Option<ConsensusEvent> {
    let ids: Vec<_> = messages.iter().filter_map(forwarded_id).collect();
    (!ids.is_empty()).then_some(ConsensusEvent::ForwardsRejected(from, ids))
}

/// The event for a request that could not be forwarded to the leader: it is certainly not in the
/// log, and is refused at once.
pub fn forward_failed(request: ProposalId, is_linked: bool) -> ConsensusEvent {
    let reason = match is_linked {
        true => Reason::TooManyRequests,
        false => Reason::NotLeader,
    };
    ConsensusEvent::ForwardFailed(request, reason)
}

/// The message that a request is not in the log, and never will be.
pub(super) fn refused(id: ProposalId, reason: Reason) -> Refused {
    Refused {
        id: Some(id),
        reason: reason.into(),
    }
}

/// Takes out the message about leases, if it is one.
pub(super) fn of_leases(message: &mut PeerMessage) -> Option<LeaseMessage> {
    use peer_message::Message::*;
    match message.message.as_mut()? {
        LeaseRequest(request) => Some(LeaseMessage::Request(std::mem::take(request))),
        LeaseAnswer(answer) => Some(LeaseMessage::Answer(std::mem::take(answer))),
        _ => None,
    }
}

/// Converts a peer's message. A message in the name of another member is dropped.
pub(super) fn input_of(
    from: MemberId,
    message: PeerMessage,
) -> Result<Option<Input>, UnfitForward> {
    use peer_message::Message::*;
    let Some(message) = message.message else {
        return Ok(None);
    };
    Ok(match message {
        Raft(message) => (message.from == from.0).then_some(Input::Raft(message)),
        Forward(forward) => match forward.id.filter(|id| id.member == from.0) {
            Some(id) if is_unfit(&forward) => return Err(UnfitForward(id)),
            Some(_) => Some(Input::Forwarded(forward)),
            None => None,
        },
        Refused(refused) => Some(Input::Refused(refused)),
        ReadIndexRequest(request) => Some(Input::ReadIndexRequested { from, request }),
        ReadIndexResponse(answer) => Some(Input::ReadIndexAnswered(answer)),
        // For the lessor (`of_leases`), and for the comparison of hashes.
        LeaseRequest(_) | LeaseAnswer(_) | HashReport(_) | StateRequest(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keelson_proto::internal::TreeRequest;

    use super::*;

    fn forwarded(path_bytes: usize, value_bytes: usize) -> bool {
        let change = TreeRequest {
            path: Bytes::from(vec![b'/'; path_bytes]),
            value: Bytes::from(vec![b'x'; value_bytes]),
            ..TreeRequest::default()
        };
        let op = Some(Op::Tree(change));
        let forward = Forward {
            id: Some(ProposalId {
                member: 7,
                ..ProposalId::default()
            }),
            command: Command { op }.encode_to_vec().into(),
            ..Forward::default()
        };
        let message = PeerMessage {
            message: Some(peer_message::Message::Forward(forward)),
        };
        matches!(input_of(MemberId(7), message), Ok(Some(_)))
    }

    /// A member of another release could forward one; its leader would stop at the entry, too.
    #[test]
    fn a_command_that_this_release_cannot_apply_is_not_taken_from_a_peer() {
        let forward = Forward {
            id: Some(ProposalId {
                member: 7,
                ..ProposalId::default()
            }),
            command: Bytes::from_static(&[0xf2, 0x3f, 0x02, 0x08, 0x01]),
            ..Forward::default()
        };
        let message = PeerMessage {
            message: Some(peer_message::Message::Forward(forward)),
        };
        assert!(input_of(MemberId(7), message).is_err());
    }

    #[test]
    fn a_peer_cannot_forward_a_path_that_clients_may_not_name() {
        assert!(forwarded(PATH_BYTES_MAX, 0));
        assert!(forwarded(10, 2 * PATH_BYTES_MAX));
        assert!(!forwarded(PATH_BYTES_MAX + 1, 0));
    }
}
