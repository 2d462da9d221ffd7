//! Tokens in the registry: created, deleted, and inspected before a write below them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use super::registry::{Body, Registry, RegistryError};
use crate::v2::Answer;

/// Where discovery.etcd.io keeps tokens.
pub(super) const ROOT: &str = "/v2/keys/_etcd/registry";

/// The path of an entry of a token, or of the token itself.
pub(super) fn below(token: &str, id: Option<&str>) -> String {
    match id {
        Some(id) => format!("{token}/{id}"),
        None => token.to_owned(),
    }
}

/// Bound on an answer that this service reads itself: a token's directory.
const ANSWER_MAX: usize = 1 << 20;

/// The size in an answer beyond which a token takes no more writes: a larger directory could not be
/// inspected. Writes that the registry carries out after their timeout fit into the rest.
pub(super) const TOKEN_MAX: usize = ANSWER_MAX / 2;

/// The largest size of an entry in an answer: a byte of a value is six in JSON at most, and the
/// other fields have fewer than this.
pub(super) fn encoded_size_max(value_bytes: usize) -> usize {
    6 * value_bytes + 512
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the registry cannot be reached: {0}")]
    Registry(#[from] RegistryError),
    #[error("the registry refused: {0}")]
    Refused(String),
}

/// The contents of a token's directory.
pub(super) enum TokenDirectory {
    /// The number of entries, and their bytes in an answer.
    Entries(usize, usize),
    /// The registry's refusal, to be forwarded.
    Refused(Response<Body>),
}

pub(super) struct Tokens<R> {
    pub(super) registry: Arc<R>,
    pub(super) timeout: Duration,
}

impl<R> Clone for Tokens<R> {
    fn clone(&self) -> Tokens<R> {
        Tokens {
            registry: Arc::clone(&self.registry),
            timeout: self.timeout,
        }
    }
}

impl<R: Registry> Tokens<R> {
    /// One exchange that is not a wait.
    pub(super) async fn call(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, RegistryError> {
        let answered = tokio::time::timeout(self.timeout, self.registry.call(request)).await;
        answered.map_err(|_| RegistryError::Timeout(self.timeout))?
    }

    /// Creates a token for `size` members.
    pub(super) async fn create(
        &self,
        size: u32,
        ttl: Option<Duration>,
    ) -> Result<String, TokenError> {
        let random: [u8; 16] = rand::random();
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(ttl) = ttl {
            let target = format!("{ROOT}/{token}?dir=true&prevExist=false");
            let form = format!("ttl={}", ttl.as_secs().max(1));
            self.done(Method::PUT, target, form).await?;
        }
        let target = format!("{ROOT}/{token}/_config/size?prevExist=false");
        self.done(Method::PUT, target, format!("value={size}"))
            .await?;
        Ok(token)
    }

    pub(super) async fn delete(&self, token: &str) -> Result<(), TokenError> {
        let target = format!("{ROOT}/{token}?recursive=true");
        self.done(Method::DELETE, target, String::new()).await
    }

    /// Reads a token's directory.
    pub(super) async fn look(&self, token: &str) -> Result<TokenDirectory, TokenError> {
        let target = format!("{ROOT}/{token}");
        let answer = self.send(Method::GET, target, String::new()).await?;
        match Answer::parse(answer.status().as_u16(), answer.body()) {
            Ok(Answer::Done(directory, _)) => Ok(TokenDirectory::Entries(
                directory.nodes.len(),
                answer.body().len(),
            )),
            _ => Ok(TokenDirectory::Refused(answer.map(|bytes| {
                Full::new(bytes)
                    .map_err(|never| match never {})
                    .boxed_unsync()
            }))),
        }
    }

    async fn done(&self, method: Method, target: String, form: String) -> Result<(), TokenError> {
        let answer = self.send(method, target, form).await?;
        if matches!(answer.status(), StatusCode::OK | StatusCode::CREATED) {
            return Ok(());
        }
        let body = answer.body();
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        Err(TokenError::Refused(format!(
            "{}: {}",
            answer.status(),
            text.trim()
        )))
    }

    async fn send(
        &self,
        method: Method,
        target: String,
        form: String,
    ) -> Result<Response<Bytes>, RegistryError> {
        let mut request = Request::new(Bytes::from(form));
        *request.uri_mut() = target.parse().expect("made of digits and constants");
        *request.method_mut() = method;
        request.headers_mut().insert(CONTENT_TYPE, FORM);
        let asking = async {
            let (parts, body) = self.registry.call(request).await?.into_parts();
            let body = whole(body).await?;
            Ok(Response::from_parts(parts, body))
        };
        tokio::time::timeout(self.timeout, asking)
            .await
            .map_err(|_| RegistryError::Timeout(self.timeout))?
    }
}

/// Reads a whole body. Without `Limited`, with which the compiler cannot prove that the future is
/// `Send`.
async fn whole(mut body: Body) -> Result<Bytes, RegistryError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(RegistryError::Body)?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if ANSWER_MAX < bytes.len() {
            let error = format!("the answer has more than {ANSWER_MAX} bytes");
            return Err(RegistryError::Body(error.into()));
        }
    }
    Ok(bytes.freeze())
}
