//! One HTTP/1.1 exchange on a connection of its own. Without a pool no connection goes stale while
//! a host waits for the others, and dropping an answer closes its connection.

mod error;
mod tunnel;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use keelson_port::{ClientTls, Protocol, Wire};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use url::Url;

pub use error::HttpError;

/// etcd's client follows as many redirects.
const REDIRECTS_MAX: usize = 10;

/// TCP keepalive: detects a service that vanished silently while a wait is open.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How exchanges are made.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    /// An HTTP proxy that the connection goes to instead of the URL's own host.
    pub(crate) proxy: Option<Url>,
    pub(crate) connect_timeout: Duration,
    /// For https URLs.
    pub(crate) tls: ClientTls,
}

/// The parts of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestParts {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct FullResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Http {
    /// Sends a request, follows redirects (for any method, as etcd's client does) and reads the
    /// whole answer.
    pub(crate) async fn fetch(
        &self,
        url: &Url,
        parts: &RequestParts,
        timeout: Duration,
        limit: usize,
    ) -> Result<FullResponse, HttpError> {
        let fetching = async {
            let (answer, url) = self.follow(url, parts).await?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, limit).collect().await;
            let body = body.map_err(|error| body_error(&url, limit, &error))?;
            Ok(FullResponse {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(timeout, fetching)
            .await
            .map_err(|_| HttpError::Timeout {
                address: address_of(url),
                after: timeout,
            })?
    }

    /// Sends a request and follows redirects; the answer's body is still to be read.
    pub(crate) async fn follow(
        &self,
        url: &Url,
        parts: &RequestParts,
    ) -> Result<(Response<ResponseBody>, Url), HttpError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.send(&url, parts).await?;
            if !answer.status().is_redirection() {
                return Ok((answer, url));
            }
            url = redirected(&url, answer.headers())?;
        }
        Err(HttpError::TooManyRedirects(url.into()))
    }

    /// One exchange; the answer's body is still to be read.
    pub(crate) async fn send(
        &self,
        url: &Url,
        parts: &RequestParts,
    ) -> Result<Response<ResponseBody>, HttpError> {
        check(url)?;
        let address = address_of(url);
        let broken = |error: hyper::Error| broken(&address, &error);
        let stream = self.connect(url).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let connection = tokio::spawn(connection).abort_handle();
        let guard = AbortOnDrop(connection);
        let proxy = self.proxy.as_ref().filter(|_| !is_secure(url));
        let request = request(url, parts, proxy)?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        Ok(answer.map(|body| ResponseBody {
            body,
            _connection: guard,
        }))
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Wire>, HttpError> {
        check(url)?;
        let after = self.connect_timeout;
        let late = |_| HttpError::Timeout {
            address: address_of(url),
            after,
        };
        let connecting = tokio::time::timeout(after, self.open(url));
        connecting.await.map_err(late)?
    }

    /// Connects to the URL's host, or to the proxy in its place.
    async fn open(&self, url: &Url) -> Result<Box<dyn Wire>, HttpError> {
        let stream = match &self.proxy {
            Some(proxy) if is_secure(url) => tunnel::open(dial(proxy).await?, proxy, url).await?,
            Some(proxy) => dial(proxy).await?,
            None => dial(url).await?,
        };
        if !is_secure(url) {
            return Ok(Box::new(stream));
        }
        match self.tls.connect(host(url), Protocol::Http1, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(unshaken(url, error)),
        }
    }
}

fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
}

/// The host without brackets.
fn host(url: &Url) -> &str {
    let host = url.host_str().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A connection to the URL's host.
async fn dial(url: &Url) -> Result<TcpStream, HttpError> {
    let port = url.port_or_known_default().unwrap_or(80);
    let unconnected = |source| HttpError::Connect {
        address: address_of(url),
        source,
    };
    let stream = TcpStream::connect((host(url), port))
        .await
        .map_err(unconnected)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    // Both are optimisations: the socket works without them.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Classifies a failed TLS handshake. A server that breaks off may be starting, so a retry may
/// help; a server with another identity stays another one.
fn unshaken(url: &Url, source: io::Error) -> HttpError {
    let address = address_of(url);
    match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => HttpError::Handshake {
            address,
            reason: source.to_string(),
        },
        _ => HttpError::Connect { address, source },
    }
}

/// Host and port, for messages.
pub(crate) fn address_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

fn check(url: &Url) -> Result<(), HttpError> {
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(()),
        _ => Err(HttpError::NotHttp(url.as_str().to_owned())),
    }
}

/// Builds the request. With `proxy` the target is in absolute form, as a proxy requires (RFC 9112
/// 3.2.2).
fn request(
    url: &Url,
    parts: &RequestParts,
    proxy: Option<&Url>,
) -> Result<Request<Full<Bytes>>, HttpError> {
    let mut target = url.path().to_owned();
    if proxy.is_some() {
        target.insert_str(0, &format!("http://{}", authority(url)));
    }
    if let Some(query) = url.query() {
        target.push('?');
        target.push_str(query);
    }
    let not_http = || HttpError::NotHttp(url.as_str().to_owned());
    let mut request = Request::new(Full::new(parts.body.clone()));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = target.parse::<Uri>().map_err(|_| not_http())?;
    *request.headers_mut() = parts.headers.clone();
    let host = HeaderValue::from_str(&authority(url)).map_err(|_| not_http())?;
    request.headers_mut().insert(HOST, host);
    if let Some(credentials) = proxy.and_then(tunnel::credentials) {
        let value = HeaderValue::from_str(&credentials).map_err(|_| not_http())?;
        request.headers_mut().insert(PROXY_AUTHORIZATION, value);
    }
    Ok(request)
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn redirected(url: &Url, headers: &HeaderMap) -> Result<Url, HttpError> {
    let location = headers.get(LOCATION).map(HeaderValue::as_bytes);
    let location = String::from_utf8_lossy(location.unwrap_or_default()).into_owned();
    let next = (!location.is_empty()).then(|| url.join(&location).ok());
    next.flatten().ok_or_else(|| HttpError::BadRedirect {
        address: address_of(url),
        location,
    })
}

fn broken(address: &str, error: &hyper::Error) -> HttpError {
    let cause = std::error::Error::source(error);
    HttpError::Broken {
        address: address.to_owned(),
        reason: cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
    }
}

fn body_error(url: &Url, limit: usize, error: &BoxError) -> HttpError {
    let address = address_of(url);
    if error.is::<http_body_util::LengthLimitError>() {
        return HttpError::TooLarge { address, limit };
    }
    let reason = error.to_string();
    HttpError::Broken { address, reason }
}

/// The error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body; dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    body: Incoming,
    _connection: AbortOnDrop,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
