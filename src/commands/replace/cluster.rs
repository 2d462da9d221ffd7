//! The members' gRPC API for commands: the endpoint that answers, and its TLS.

use std::io;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::{Member, MemberListRequest, StatusRequest, StatusResponse};
use keelson_proxy::{ClientTls, Protocol};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The time to connect to an endpoint, and for its first answer.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A member answers within seven seconds at etcd's default election timeout, with a refusal at the
/// latest.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A socket, with TLS or without.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

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
        for url in &member.client_ur_ls {
            let Ok(channel) = self.connect(url, CONNECT_MAX).await else {
                continue;
            };
            let mut client = MaintenanceClient::new(channel);
            let Ok(status) = client.status(StatusRequest {}).await else {
                continue;
            };
            let status = status.into_inner();
            // Another process may have its address.
            if status
                .header
                .as_ref()
                .is_some_and(|it| it.member_id == member.id)
            {
                return Some(status);
            }
        }
        None
    }

    async fn connect(&self, url: &str, answer_max: Duration) -> Result<Channel, Status> {
        let unavailable = |error: &dyn std::fmt::Display| {
            Status::unavailable(format!("cannot connect to {url}: {error}"))
        };
        let endpoint =
            Endpoint::from_shared(url.to_owned()).map_err(|error| unavailable(&error))?;
        let endpoint = endpoint.connect_timeout(CONNECT_MAX).timeout(answer_max);
        let tls = self.tls.clone();
        let connector = tower::service_fn(move |uri: Uri| {
            let tls = tls.clone();
            async move { dial(&uri, &tls).await.map(TokioIo::new) }
        });
        let connected = endpoint.connect_with_connector(connector).await;
        connected.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            unavailable(&cause.unwrap_or_else(|| error.to_string()))
        })
    }
}

async fn dial(uri: &Uri, tls: &ClientTls) -> io::Result<Box<dyn Socket>> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    match is_secure {
        true => Ok(Box::new(tls.connect(host, Protocol::Http2, socket).await?)),
        false => Ok(Box::new(socket)),
    }
}
