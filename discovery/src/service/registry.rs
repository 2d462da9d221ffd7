//! The store of tokens: any server of etcd's v2 keys API.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use keelson_port::ClientTls;
use url::Url;

use crate::http::{BoxError, Http, HttpError, RequestParts};

/// An answer's body. Not `Sync`, because axum's is not.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Why the registry did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It could not be reached.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Its answer was cut off, or too large.
    #[error("{0}")]
    Body(BoxError),
    /// It has stopped.
    #[error("{0}")]
    Stopped(String),
}

/// A v2 keys API. The request's URI is a path and a query, `/v2/keys/...`. The answer's headers
/// must be returned as soon as they arrive, also before the first event of a wait.
pub trait Registry: Send + Sync + 'static {
    /// One exchange. Dropping the future, or the answer's body, ends it.
    fn call(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Body>, RegistryError>> + Send;
}

/// The registry of `--etcd URL`.
#[derive(Clone, Debug)]
pub struct HttpRegistry {
    url: Url,
    http: Http,
}

impl HttpRegistry {
    /// An etcd, by the URL of its client port. Only scheme, host and port of it are used.
    pub fn new(url: &str, connect_timeout: Duration) -> Result<HttpRegistry, HttpError> {
        let not_http = || HttpError::NotHttp(url.to_owned());
        let url = Url::parse(url).map_err(|_| not_http())?;
        match url.scheme() {
            "http" if url.has_host() => {}
            "https" => return Err(HttpError::Tls(url.into())),
            _ => return Err(not_http()),
        }
        let proxy = None;
        let http = Http {
            proxy,
            connect_timeout,
            tls: ClientTls::default(),
        };
        Ok(HttpRegistry { url, http })
    }
}

impl Registry for HttpRegistry {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Body>, RegistryError> {
        let (parts, body) = request.into_parts();
        let mut url = self.url.clone();
        url.set_path(parts.uri.path());
        url.set_query(parts.uri.query());
        let parts = RequestParts {
            method: parts.method,
            headers: parts.headers,
            body,
        };
        // Early etcds redirect writes to their leader.
        let (answer, _) = self.http.follow(&url, &parts).await?;
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}
