//! Opens connections to peers, and distinguishes a dead process from a slow one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use keelson_port::{ClientTls, Protocol, Wire};
use keelson_proto::peer::peer_client::PeerClient;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use super::MESSAGE_BYTES_MAX;
use crate::config::Url;

/// The keep-alive interval. A silent network is detected after about this long; Raft detects it
/// earlier.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_PATIENCE: Duration = Duration::from_secs(3);
/// A connection that has lasted this long has received a keep-alive answer, so its peer responds.
pub(super) const SILENCE: Duration = Duration::from_secs(6);
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Large enough for the largest append message to be in flight without a pause.
const WINDOW_BYTES: u32 = 8 << 20;

/// Why a connection failed.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The host refused the connection: no process listens on the port.
    Refused,
    /// Any other error, as text.
    Other(String),
}

/// Tries the peer's URLs one after the other.
pub(super) async fn connect(
    urls: &[Url],
    tls: &ClientTls,
) -> Result<PeerClient<Channel>, ConnectError> {
    let mut all_refused = !urls.is_empty();
    let mut text = "it has no peer URL".to_owned();
    for url in urls {
        match connect_one(url, tls).await {
            Ok(channel) => {
                return Ok(PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX));
            }
            Err(ConnectError::Refused) => text = format!("{url}: connection refused"),
            Err(ConnectError::Other(why)) => {
                all_refused = false;
                text = format!("{url}: {why}");
            }
        }
    }
    match all_refused {
        true => Err(ConnectError::Refused),
        false => Err(ConnectError::Other(text)),
    }
}

/// A connection, with TLS where the URL is https.
async fn open(url: &Url, tls: &ClientTls, refused: &AtomicBool) -> io::Result<Box<dyn Wire>> {
    let socket = dial(url).await.inspect_err(|error| {
        let gone = error.kind() == io::ErrorKind::ConnectionRefused;
        refused.store(gone, Ordering::Relaxed);
    })?;
    if !url.scheme().is_secure() {
        return Ok(Box::new(socket));
    }
    let host = match url.scheme().is_unix() {
        true => "localhost".to_owned(),
        // A zone is no part of a name (RFC 6874, 4).
        false => url.host().split('%').next().unwrap_or_default().to_owned(),
    };
    let shaken = tls.connect(&host, Protocol::Http2, socket).await;
    let stream = shaken.map_err(|error| io::Error::other(format!("no TLS with it: {error}")))?;
    Ok(Box::new(stream))
}

async fn dial(url: &Url) -> io::Result<TcpStream> {
    if url.scheme().is_unix() {
        return keelson_port::connect_unix(url.host()).await;
    }
    let socket = TcpStream::connect((url.dialled_host(), url.port())).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The authority of requests to the peer: it may contain neither a path nor a zone (RFC 6874, 4).
fn named(url: &Url) -> &str {
    match url.scheme().is_unix() || url.host().contains('%') {
        true => "localhost",
        false => url.authority(),
    }
}

async fn connect_one(url: &Url, tls: &ClientTls) -> Result<Channel, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{}", named(url)))
        .map_err(|error| ConnectError::Other(error.to_string()))?
        .connect_timeout(CONNECT_PATIENCE)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .keep_alive_while_idle(true);
    let refused = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&refused);
    let owned = (url.clone(), tls.clone());
    let connector = tower::service_fn(move |_| {
        let ((url, tls), note) = (owned.clone(), Arc::clone(&note));
        async move { open(&url, &tls, &note).await.map(TokioIo::new) }
    });
    match endpoint.connect_with_connector(connector).await {
        Ok(channel) => Ok(channel),
        Err(_) if refused.load(Ordering::Relaxed) => Err(ConnectError::Refused),
        Err(error) => Err(ConnectError::Other(cause(&error))),
    }
}

/// The error with its causes; tonic's own text is "transport error".
fn cause(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
