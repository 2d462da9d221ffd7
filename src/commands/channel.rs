//! Connections of a command to members: gRPC, and a GET over HTTP/1.1.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use keelson_proxy::{ClientTls, Protocol};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The time to connect to an endpoint.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The largest body of an answer to a GET, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Connects to the gRPC API at a URL. Each answer has to come within `answer_max`.
///
/// # Errors
/// `Unavailable`, with the reason.
pub(super) async fn connect(
    url: &str,
    tls: &ClientTls,
    answer_max: Duration,
) -> Result<Channel, Status> {
    let unavailable = |error: &dyn std::fmt::Display| {
        Status::unavailable(format!("cannot connect to {url}: {error}"))
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| unavailable(&error))?;
    let endpoint = endpoint.connect_timeout(CONNECT_MAX).timeout(answer_max);
    let tls = tls.clone();
    let connector = tower::service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move { tls.dial(&uri, Protocol::Http2).await.map(TokioIo::new) }
    });
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        unavailable(&cause.unwrap_or_else(|| error.to_string()))
    })
}

/// A channel to the gRPC API at a URL. It connects when it is used.
///
/// # Errors
/// It is no URL.
pub(crate) fn lazy(url: &str, tls: &ClientTls, answer_max: Duration) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(url.to_owned());
    let endpoint = endpoint.map_err(|error| Status::unavailable(error.to_string()))?;
    let endpoint = endpoint.connect_timeout(answer_max).timeout(answer_max);
    let tls = tls.clone();
    let connector = tower::service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move { tls.dial(&uri, Protocol::Http2).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// Sends a GET request. Returns the headers and the body of an answer with status 200.
///
/// # Errors
/// There is no such answer within `answer_max`.
pub(crate) async fn get(
    url: &str,
    tls: &ClientTls,
    answer_max: Duration,
) -> io::Result<(HeaderMap, Bytes)> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(answer_max, get_now(url, tls)).await.map_err(late)?
}

async fn get_now(url: &str, tls: &ClientTls) -> io::Result<(HeaderMap, Bytes)> {
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut connection = Connection::open(&uri, tls).await?;
    let answer = connection.get(path, None).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    match head.status {
        http::StatusCode::OK => Ok((head.headers, body.map_err(io::Error::other)?.to_bytes())),
        status => Err(io::Error::other(format!("it answers {status}"))),
    }
}

/// A connection over HTTP/1.1, which ends with this value.
pub(super) struct Connection {
    host: String,
    sender: http1::SendRequest<Empty<Bytes>>,
    task: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    /// Connects to the host of a URL.
    ///
    /// # Errors
    /// Those of the socket and of TLS.
    pub(super) async fn open(uri: &Uri, tls: &ClientTls) -> io::Result<Connection> {
        let socket = TokioIo::new(tls.dial(uri, Protocol::Http1).await?);
        let (sender, connection) = http1::handshake(socket).await.map_err(io::Error::other)?;
        Ok(Connection {
            host: uri.authority().map_or("", |at| at.as_str()).to_owned(),
            sender,
            task: tokio::spawn(connection),
        })
    }

    /// Whether another request may be sent, now or once the last answer was read.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a GET request. Returns the answer's head, and its body to be read.
    ///
    /// # Errors
    /// The connection has failed.
    pub(super) async fn get(
        &mut self,
        path: &str,
        authorization: Option<&str>,
    ) -> io::Result<Response<Incoming>> {
        let mut request = Request::get(path).header(header::HOST, &self.host);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(io::Error::other)?;
        self.sender.ready().await.map_err(io::Error::other)?;
        let answer = self.sender.send_request(request).await;
        answer.map_err(io::Error::other)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
