//! Membership calls for scenarios, and the refusals that may precede their success.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest,
};
use tonic::Status;
use tonic::transport::Channel;

use crate::proc::client;

/// etcd's refusal of a change while a voter is silent.
pub const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
/// etcd's refusal of a promotion.
pub const NOT_IN_SYNC: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";

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

/// Repeats the call until it succeeds. Every answer before must be one of `refusals`.
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
            Err(status) if refusals.contains(&status.message()) => {
                if begin.elapsed() > LIMIT {
                    bail!("after {LIMIT:?} it is still refused: {status}");
                }
            }
            Err(status) => return Err(status).context("an unexpected refusal"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
