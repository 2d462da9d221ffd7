//! The members' gRPC API for commands: the endpoint that answers, and its TLS.

use std::time::Duration;

use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, StatusRequest, StatusResponse,
};
use keelson_store::{Error, StateError};
use tonic::{Code, Status};

use crate::commands::access::{MemberAccess, MemberChannel, remedy, text_is};
use crate::commands::channel::CONNECT_MAX;

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
    /// A member at this URL that refuses the user.
    Refused(String),
    /// Nothing.
    None,
}

/// The endpoints of a cluster.
#[derive(Debug)]
pub(super) struct ClusterEndpoints {
    urls: Vec<String>,
    access: MemberAccess,
    /// The endpoint that is used; the next one after a failure.
    at: usize,
}

impl ClusterEndpoints {
    pub(super) fn new(urls: Vec<String>, access: MemberAccess) -> ClusterEndpoints {
        ClusterEndpoints {
            urls,
            access,
            at: 0,
        }
    }

    /// Moves on to the next endpoint.
    pub(super) fn rotate(&mut self) {
        self.at = (self.at + 1) % self.urls.len();
    }

    /// A client of the membership API at the present endpoint.
    pub(super) async fn client(&self) -> Result<ClusterClient<MemberChannel>, Status> {
        let channel = self.access.connect(&self.urls[self.at], ANSWER_MAX).await?;
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
            MemberAnswer::Other { .. } | MemberAnswer::Refused(_) | MemberAnswer::None => None,
        }
    }

    /// What answers at the client URLs of a member.
    pub(super) async fn answer_of(&self, member: &Member) -> MemberAnswer {
        let mut answer = MemberAnswer::None;
        for url in &member.client_ur_ls {
            let status = match self.access.connect(url, CONNECT_MAX).await {
                Ok(channel) => {
                    MaintenanceClient::new(channel)
                        .status(StatusRequest {})
                        .await
                }
                Err(status) => Err(status),
            };
            let status = match status {
                Ok(status) => status.into_inner(),
                // It answers, so it runs.
                Err(refused) if remedy(&refused).is_some() => {
                    answer = MemberAnswer::Refused(url.clone());
                    continue;
                }
                Err(_) => continue,
            };
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
            // Of the caller, not of the change.
            Err(status) if remedy(&status).is_some() => Err(status),
            // A refusal for another reason is none to keep the member. Another command may have
            // removed it just now: the learner is then its successor.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Whether the call may succeed after another login.
    pub(super) fn may_log_in_again(&self, status: &Status) -> bool {
        self.access.may_log_in_again(status)
    }
}

/// Whether the same call may succeed a moment later.
pub(super) fn passes(status: &Status) -> bool {
    let code = status.code();
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    ) || text_is(status, &Error::TooManyRequests)
}
