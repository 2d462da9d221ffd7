//! The members' gRPC API for commands: the endpoint that answers, and its TLS.

use std::time::Duration;

use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, StatusRequest, StatusResponse,
};
use keelson_proxy::ClientTls;
use keelson_store::{Error, StateError};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::commands::channel::{self, CONNECT_MAX};

/// A member answers within seven seconds at etcd's default election timeout, with a refusal at the
/// latest.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// What answers at the client URLs of a member.
#[derive(Debug)]
pub(super) enum MemberAnswer {
    /// The member itself.
    Own(Box<StatusResponse>),
    /// Another member: a URL such as http://localhost:2379 leads to each host's own.
    Other {
        /// The URL at which it answers.
        url: String,
        /// Its id.
        id: u64,
    },
    /// Nothing.
    None,
}

/// The endpoints of a cluster.
#[derive(Debug)]
pub(super) struct ClusterEndpoints {
    urls: Vec<String>,
    tls: ClientTls,
    /// The endpoint that is used; the next one after a failure.
    at: usize,
}

impl ClusterEndpoints {
    pub(super) fn new(urls: Vec<String>, tls: ClientTls) -> ClusterEndpoints {
        ClusterEndpoints { urls, tls, at: 0 }
    }

    /// Moves on to the next endpoint.
    pub(super) fn rotate(&mut self) {
        self.at = (self.at + 1) % self.urls.len();
    }

    /// A client of the membership API at the present endpoint.
    pub(super) async fn client(&self) -> Result<ClusterClient<Channel>, Status> {
        let channel = self.connect(&self.urls[self.at], ANSWER_MAX).await?;
        Ok(ClusterClient::new(channel))
    }

    /// The members, read linearizably.
    pub(super) async fn members(&self) -> Result<Vec<Member>, Status> {
        let request = MemberListRequest { linearizable: true };
        let listed = self.client().await?.member_list(request).await?;
        Ok(listed.into_inner().members)
    }

    /// The status of a member at its own client URLs, if it answers at one of them.
    pub(super) async fn status_of(&self, member: &Member) -> Option<StatusResponse> {
        match self.answer_of(member).await {
            MemberAnswer::Own(status) => Some(*status),
            MemberAnswer::Other { .. } | MemberAnswer::None => None,
        }
    }

    /// What answers at the client URLs of a member.
    pub(super) async fn answer_of(&self, member: &Member) -> MemberAnswer {
        let mut answer = MemberAnswer::None;
        for url in &member.client_ur_ls {
            let Ok(channel) = self.connect(url, CONNECT_MAX).await else {
                continue;
            };
            let mut client = MaintenanceClient::new(channel);
            let Ok(status) = client.status(StatusRequest {}).await else {
                continue;
            };
            let status = status.into_inner();
            let id = status.header.as_ref().map_or(0, |header| header.member_id);
            if id == member.id {
                return MemberAnswer::Own(Box::new(status));
            }
            answer = MemberAnswer::Other {
                url: url.clone(),
                id,
            };
        }
        answer
    }

    /// Whether the leader counts every voter as active. The request adds a learner with the peer
    /// URLs of `member`, which changes nothing: the leader refuses it as unhealthy while a voter
    /// is silent, else because the URLs are taken.
    ///
    /// # Errors
    /// No endpoint, or no leader, answers now.
    pub(super) async fn all_voters_active(&self, member: &Member) -> Result<bool, Status> {
        let request = MemberAddRequest {
            peer_ur_ls: member.peer_ur_ls.clone(),
            is_learner: true,
        };
        match self.client().await?.member_add(request).await {
            Err(status) if text_is(&status, &Error::State(StateError::PeerUrlExist)) => Ok(true),
            Err(status) if !text_is(&status, &Error::Unhealthy) && passes(&status) => Err(status),
            // A refusal for another reason is none to keep the member. Another command may have
            // removed it just now: the learner is then its successor.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    async fn connect(&self, url: &str, answer_max: Duration) -> Result<Channel, Status> {
        channel::connect(url, &self.tls, answer_max).await
    }
}

/// Whether the refusal has etcd's text of this error.
pub(super) fn text_is(status: &Status, error: &Error) -> bool {
    status.message() == error.to_string()
}

/// Whether the same call may succeed a moment later.
pub(super) fn passes(status: &Status) -> bool {
    let code = status.code();
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    ) || text_is(status, &Error::TooManyRequests)
}
