//! Membership calls for scenarios, and the refusals that may precede their success.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::proc::client;

/// etcd's refusal of a change while a voter is silent.
pub const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
/// etcd's refusal of a promotion.
pub const NOT_IN_SYNC: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";
/// etcd's refusal to remove a member that was removed before.
const NO_MEMBER: &str = "etcdserver: member not found";
/// etcd's refusal to promote a voter.
const NO_LEARNER: &str = "etcdserver: can only promote a learner member";
/// etcd's refusal to add a member twice.
const URL_EXISTS: &str = "etcdserver: Peer URLs already exists";

/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The pause before a refused call is repeated.
const AGAIN: Duration = Duration::from_millis(50);

/// The membership API of one member.
#[derive(Clone, Debug)]
pub struct Members {
    client: ClusterClient<Channel>,
}

impl Members {
    /// Calls go to the member at this client URL.
    pub fn at(url: &str) -> Members {
        Members {
            client: ClusterClient::new(client::lazy(url)),
        }
    }

    /// `member add` of a voter or a learner: its id.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn add(&self, peer_url: &str, is_learner: bool) -> Result<u64, Status> {
        let request = MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner,
        };
        let added = self.client.clone().member_add(request).await?.into_inner();
        Ok(added.member.map_or(0, |member| member.id))
    }

    /// As [`Members::add`], also after an earlier try whose outcome is unknown.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn add_again(&self, peer_url: &str, is_learner: bool) -> Result<u64, Status> {
        let refusal = match self.add(peer_url, is_learner).await {
            Err(status) if status.message() == URL_EXISTS => status,
            answer => return answer,
        };
        let members = self.list().await?;
        let added = members
            .iter()
            .find(|member| member.peer_ur_ls == [peer_url]);
        added.map(|member| member.id).ok_or(refusal)
    }

    /// As [`Members::remove`], also after an earlier try whose outcome is unknown.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn remove_again(&self, id: u64) -> Result<(), Status> {
        unless_before(self.remove(id).await, NO_MEMBER)
    }

    /// As [`Members::promote`], also after an earlier try whose outcome is unknown.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn promote_again(&self, id: u64) -> Result<(), Status> {
        unless_before(self.promote(id).await, NO_LEARNER)
    }

    /// `member remove`.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn remove(&self, id: u64) -> Result<(), Status> {
        let request = MemberRemoveRequest { id };
        self.client.clone().member_remove(request).await.map(drop)
    }

    /// `member promote`.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn promote(&self, id: u64) -> Result<(), Status> {
        let request = MemberPromoteRequest { id };
        self.client.clone().member_promote(request).await.map(drop)
    }

    /// `member update`.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn update(&self, id: u64, peer_url: &str) -> Result<(), Status> {
        let request = MemberUpdateRequest {
            id,
            peer_ur_ls: vec![peer_url.to_owned()],
        };
        self.client.clone().member_update(request).await.map(drop)
    }

    /// `member list`.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn list(&self) -> Result<Vec<Member>, Status> {
        let mut client = self.client.clone();
        let list = client.member_list(MemberListRequest::default()).await?;
        Ok(list.into_inner().members)
    }
}

/// The id of the member at this client URL.
///
/// # Errors
/// It does not answer.
pub async fn id_of(url: &str) -> Result<u64> {
    let header = client::status(url).await?.header.context("a header")?;
    Ok(header.member_id)
}

/// Checks that the call was refused with this text.
///
/// # Errors
/// It succeeded, or was refused with another text.
pub fn refused<T>(outcome: Result<T, Status>, expected: &str) -> Result<()> {
    let status = outcome.err().context("it was not refused")?;
    ensure!(status.message() == expected, "{status}");
    Ok(())
}

/// Takes a refusal with this text as a success: an earlier try has taken effect.
///
/// # Errors
/// Another refusal.
pub fn unless_before(outcome: Result<(), Status>, refusal: &str) -> Result<(), Status> {
    outcome.or_else(|status| match status.message() == refusal {
        true => Ok(()),
        false => Err(status),
    })
}

/// Repeats the call until it succeeds. Every answer before must be one of `refusals`, or
/// `Unavailable`, after which the outcome is unknown.
///
/// # Errors
/// It is refused with another text, or for too long.
pub async fn done<T, F>(refusals: &[&str], mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Status>>,
{
    let begin = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status)
                if status.code() == Code::Unavailable || refusals.contains(&status.message()) =>
            {
                if begin.elapsed() > LIMIT {
                    bail!("after {LIMIT:?} it is still refused: {status}");
                }
            }
            Err(status) => return Err(status).context("an unexpected refusal"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
