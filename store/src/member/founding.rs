//! The peer port of a founder before it is founded: it answers that its log is empty.
//!
//! Founders that start together check whether any of them has run before. Their peer ports are
//! bound by then. Without an answer there, each founder would wait until its timeout.

use std::io;
use std::os::fd::AsFd;

use keelson_port::{Listener, Socket};
use keelson_proto::etcdserverpb::{HashKvRequest, HashKvResponse, Member};
use keelson_proto::peer::peer_server::{Peer, PeerServer};
use keelson_proto::peer::{
    Envelope, MembersRequest, MembersResponse, SnapshotChunk, SnapshotReceived, StreamClosed,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use crate::config::{Config, InitialClusterState};
use crate::peer::MEMBERS_REQUEST_BYTES_MAX;

/// Runs `deciding`, and meanwhile answers the other founders.
pub(crate) async fn answering<T>(
    config: &Config,
    listeners: &[Listener],
    deciding: impl Future<Output = T>,
) -> T {
    let Some(answer) = answer(config) else {
        return deciding.await;
    };
    let copies: io::Result<Vec<_>> = listeners.iter().map(copy).collect();
    let Ok(copies) = copies else {
        // The other founders then wait, as for a host that has not started.
        return deciding.await;
    };
    let (decided, over) = oneshot::channel::<()>();
    let founder =
        PeerServer::new(FounderPeer(answer)).max_decoding_message_size(MEMBERS_REQUEST_BYTES_MAX);
    let routes = tonic::service::Routes::new(founder);
    let serving = crate::edge::serve_founder(copies, routes, async {
        let _ = over.await;
    });
    let deciding = async {
        let done = deciding.await;
        drop(decided);
        done
    };
    // The connections must be closed before the member itself serves this port.
    let (done, served) = tokio::join!(deciding, serving);
    if let Err(error) = served {
        tracing::warn!(%error, "could not answer the other founders");
    }
    done
}

/// Duplicates the descriptor of a socket. The file of a unix socket would be removed with its
/// first listener, so unix sockets are refused.
fn copy(listener: &Listener) -> io::Result<Listener> {
    let Socket::Tcp(socket) = &listener.socket else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let copy = socket.as_fd().try_clone_to_owned()?;
    let socket = TcpListener::from_std(std::net::TcpListener::from(copy))?;
    Ok(Listener {
        both: listener.both,
        ..Listener::new(Socket::Tcp(socket), listener.tls.clone())
    })
}

/// The answer to the other founders. `None` if this host joins, founds a cluster of one, or has a
/// log: a member with a log must not be counted as empty.
fn answer(config: &Config) -> Option<MembersResponse> {
    let me = config.founding_member_id()?;
    let founders = config.founders();
    if !super::recover::has_no_log(config) {
        return None;
    }
    if config.initial_cluster_state != InitialClusterState::New || founders.len() < 2 {
        return None;
    }
    let members = founders.iter().map(|founder| Member {
        id: founder.id.0,
        name: founder.name.clone(),
        ..Member::default()
    });
    Some(MembersResponse {
        cluster_id: config.founding_cluster_id().0,
        members: members.collect(),
        member_id: me.0,
        founding: true,
        empty: true,
        ..MembersResponse::default()
    })
}

struct FounderPeer(MembersResponse);

/// The error for other calls before the founding. It is temporary, so the peers do not warn.
fn not_yet() -> Status {
    Status::aborted("the member is about to be founded")
}

#[tonic::async_trait]
impl Peer for FounderPeer {
    async fn stream(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<StreamClosed>, Status> {
        Err(not_yet())
    }

    async fn snapshot(
        &self,
        _: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotReceived>, Status> {
        Err(not_yet())
    }

    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        Err(not_yet())
    }

    async fn members(
        &self,
        _: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Url;
    use crate::disk::RealDisk;
    use crate::wal::{Identity, Wal, WalConfig};

    /// The answer of a founder with a log let another founder that had lost its disk start anew.
    #[test]
    fn a_founder_that_is_started_again_does_not_answer_that_it_is_empty() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::single("m1", dir.path().join("m1"));
        let other = ("m2".to_owned(), Url::http("127.0.0.1", 2390));
        config.initial_cluster.push(other);
        assert!(answer(&config).is_some_and(|answer| answer.empty));
        let identity = Identity {
            cluster: config.founding_cluster_id(),
            member: config.founding_member_id().expect("it is a founder"),
        };
        let wal = config.data_dir.join("member/wal");
        let disk = std::sync::Arc::new(RealDisk);
        let opened = Wal::create_or_open(disk, &wal, identity, WalConfig::default());
        drop(opened.expect("a new log"));
        assert!(answer(&config).is_none());
    }
}
