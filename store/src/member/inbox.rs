//! The inbox of the peer port: a bounded path from the peer streams to the member's queue.

use std::sync::Arc;
use std::time::Duration;

use keelson_core::member::{Membership, has_room, reject_forwards, weight};
use keelson_core::node::Input;
use keelson_core::{MemberId, Millis};
use keelson_port::ClientTls;
use keelson_proto::etcdserverpb::{HashKvResponse, Member, ResponseHeader};
use keelson_proto::peer::{MembersResponse, PeerMessage};
use tokio::sync::Semaphore;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::fatal::Fatal;
use super::worker::{MemberExecutor, WorkerEvent};
use crate::Error;
use crate::config::Url;
use crate::edge::{SeenTokens, TokenSignature};
use crate::peer::{Inbox, PeerEvent, PeerListener};
use crate::shared::Shared;

/// The size limit of peer messages that wait for a round, in bytes. Beyond it messages are
/// dropped: Raft repeats its messages, and forwarded requests are refused.
const WAITING_BYTES_MAX: usize = 128 << 20;

pub(crate) struct MemberInbox {
    pub(crate) executor: Arc<MemberExecutor>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) seen_tokens: Arc<SeenTokens>,
    /// The data directory was empty when the member started.
    pub(crate) is_new: bool,
    /// For calls to peers with https URLs.
    pub(crate) tls: ClientTls,
    /// Bounds the hashes that are computed for peers: one at a time.
    pub(crate) hashing: Arc<Semaphore>,
    pub(crate) fatal: Fatal,
    /// The connections of the peer port are dropped some time after the port is closed.
    pub(crate) _in_use: TaskTrackerToken,
}

impl Inbox for MemberInbox {
    fn deliver(&self, from: MemberId, messages: Vec<PeerMessage>) {
        let bytes = messages.iter().map(weight).sum();
        let before = self.shared.note_arrived(bytes);
        if has_room(before, bytes, WAITING_BYTES_MAX) {
            let _ = self.executor.send(WorkerEvent::Peer(from, messages, bytes));
            return;
        }
        self.shared.note_taken(bytes);
        if let Some(rejected) = reject_forwards(from, &messages) {
            let _ = self.executor.send(WorkerEvent::Core(rejected));
        }
    }

    fn membership_of(&self, member: MemberId) -> Membership {
        self.shared.membership_of(member)
    }

    fn peer_urls(&self, member: MemberId) -> Vec<Url> {
        self.shared.peer_urls(member)
    }

    /// This member may be behind, so it requests the member lists of the other members.
    fn note_unknown(&self, member: MemberId) {
        if !self.shared.note_unknown(Millis(self.executor.now_ms())) {
            return;
        }
        tracing::debug!(%member, "a call of an unknown member; requesting the member lists");
        let (shared, executor) = (Arc::clone(&self.shared), Arc::clone(&self.executor));
        let tls = self.tls.clone();
        self.shared.jobs.spawn(async move {
            let tls = &tls;
            let requests = shared.peers().into_iter().map(|peer| async move {
                let answer = crate::peer::request_members(&peer.urls, tls).await.ok()?;
                is_of(&answer, peer.id).then_some(answer)
            });
            let answers = futures_util::future::join_all(requests).await;
            let answers = answers.into_iter().flatten();
            let ours = answers.filter(|answer| answer.cluster_id == shared.cluster.0);
            let members: Vec<_> = ours.flat_map(|answer| answer.members).collect();
            if shared.note_reported(&members) {
                let _ = executor.send(WorkerEvent::MembersChanged);
            }
        });
    }

    fn members(&self) -> MembersResponse {
        let view = self.shared.view();
        // Read first, so that the members below are at this index or later, never earlier.
        let applied = view.applied_index().0;
        let members = view.members();
        let has_run = |member: &Member| !member.client_ur_ls.is_empty();
        MembersResponse {
            cluster_id: self.shared.cluster.0,
            founding: false,
            empty: self.is_new && !members.iter().any(has_run),
            members,
            member_id: self.shared.member.0,
            key_is_mine: false,
            applied,
        }
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Status> {
        // Held until the hash is there, also if the caller leaves.
        let turn = Arc::clone(&self.hashing).try_acquire_owned();
        let turn = turn.map_err(|_| Status::resource_exhausted("another hash is computed"))?;
        let view = self.shared.view();
        // It is healing: what it has is known to differ.
        let fenced = view.require_unfenced();
        fenced.map_err(|error| Status::from(Error::from(error)))?;
        let hashing = self.shared.jobs.spawn_blocking(move || {
            let _turn = turn;
            (view.hash_kv(revision), view.revision())
        });
        let hashed = hashing.await;
        let (hash, current) = hashed.map_err(|error| Status::internal(error.to_string()))?;
        let hash = self.fatal.of_read(hash).map_err(Status::from)?;
        Ok(HashKvResponse {
            header: Some(ResponseHeader {
                cluster_id: self.shared.cluster.0,
                member_id: self.shared.member.0,
                revision: current,
                raft_term: self.shared.shown_term(),
            }),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        })
    }

    fn token_used(&self, token: &TokenSignature) -> Option<Duration> {
        self.seen_tokens.last_use(token)
    }
}

/// Whether `member` may have sent the answer. Releases without keys do not include their id.
fn is_of(answer: &MembersResponse, member: MemberId) -> bool {
    [0, member.0].contains(&answer.member_id)
}

/// Converts the events of the links to inputs of the node.
pub(crate) fn listener(executor: Arc<MemberExecutor>, shared: Arc<Shared>) -> PeerListener {
    Arc::new(move |event| {
        let input = match event {
            PeerEvent::Down(peer) => Input::PeerDown(peer),
            PeerEvent::Up(peer) => Input::PeerUp(peer),
            PeerEvent::Lost(peer) => Input::Unreachable(peer),
            PeerEvent::Removed => return shared.note_removed(),
        };
        let _ = executor.send(WorkerEvent::from(input));
    })
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;
    use keelson_core::member::ConsensusEvent;
    use keelson_proto::peer::{Forward, ProposalId, peer_message::Message};

    use super::*;
    use crate::jobs::Jobs;
    use crate::member::applier_shell;

    /// The request was dropped without an answer.
    #[test]
    fn a_request_for_which_there_is_no_room_is_refused() {
        let executor = MemberExecutor::new();
        let applier = applier_shell::tests::applier(&executor, bounded(1).0);
        let inbox = MemberInbox {
            executor: Arc::clone(&executor),
            shared: applier.shared,
            seen_tokens: Arc::default(),
            is_new: false,
            tls: ClientTls::default(),
            hashing: Arc::new(Semaphore::new(1)),
            fatal: applier.fatal,
            _in_use: Jobs::default().token(),
        };
        let forward = Forward {
            id: Some(ProposalId::default()),
            ..Forward::default()
        };
        let message = PeerMessage {
            message: Some(Message::Forward(forward)),
        };
        inbox.shared.note_arrived(WAITING_BYTES_MAX);
        inbox.deliver(MemberId(2), vec![message, PeerMessage::default()]);
        let Some(WorkerEvent::Core(ConsensusEvent::ForwardsRejected(MemberId(2), handoff))) =
            executor.next_event()
        else {
            panic!("it is not answered");
        };
        assert_eq!(handoff, [ProposalId::default()]);
        assert!(executor.next_event().is_none());
    }

    /// A member that lags and was upgraded first receives an added member's URLs from older
    /// releases.
    #[test]
    fn members_of_a_release_that_does_not_name_itself_vouch_too() {
        let of = |member_id| MembersResponse {
            member_id,
            ..MembersResponse::default()
        };
        assert!(is_of(&of(7), MemberId(7)));
        assert!(is_of(&of(0), MemberId(7)));
        assert!(!is_of(&of(8), MemberId(7)));
    }
}
