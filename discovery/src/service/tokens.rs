//! Tokens in the registry: made, deleted, and looked at before something is written below them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use super::registry::{Body, Registry, RegistryError};
use crate::v2::Answer;

/// Where discovery.etcd.io keeps them.
pub(super) const ROOT: &str = "/v2/keys/_etcd/registry";

/// An entry of a token, or the token itself.
pub(super) fn below(token: &str, id: Option<&str>) -> String {
    match id {
        Some(id) => format!("{token}/{id}"),
        None => token.to_owned(),
    }
}

/// Bytes of an answer we read ourselves: a token's directory at most.
const ANSWER_MAX: usize = 1 << 20;

/// What a token may take in an answer; beyond it nothing more is written, since a larger directory
/// could not be looked at any more. Writes that the registry makes after their time fit into the rest.
pub(super) const TOKEN_MAX: usize = ANSWER_MAX / 2;

/// A byte of a value is six in JSON at most, and an entry's other fields are fewer than this.
pub(super) fn grown(value_bytes: usize) -> usize {
    6 * value_bytes + 512
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the registry is out of reach: {0}")]
    Registry(#[from] RegistryError),
    #[error("the registry refused: {0}")]
    Refused(String),
}

/// What is below a token.
pub(super) enum Found {
    /// So many entries, which take so many bytes in an answer.
    Entries(usize, usize),
    /// The registry's refusal, to be passed on.
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
    /// One exchange that is no wait.
    pub(super) async fn call(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, RegistryError> {
        let answered = tokio::time::timeout(self.timeout, self.registry.call(request)).await;
        answered.map_err(|_| RegistryError::Timeout(self.timeout))?
    }

    /// A new token for so many members.
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

    /// Looks at a token's directory.
    pub(super) async fn look(&self, token: &str) -> Result<Found, TokenError> {
        let target = format!("{ROOT}/{token}");
        let answer = self.ask(Method::GET, target, String::new()).await?;
        match Answer::parse(answer.status().as_u16(), answer.body()) {
            Ok(Answer::Done(directory, _)) => {
                Ok(Found::Entries(directory.nodes.len(), answer.body().len()))
            }
            _ => Ok(Found::Refused(answer.map(|bytes| {
                Full::new(bytes)
                    .map_err(|never| match never {})
                    .boxed_unsync()
            }))),
        }
    }

    async fn done(&self, method: Method, target: String, form: String) -> Result<(), TokenError> {
        let answer = self.ask(method, target, form).await?;
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

    async fn ask(
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

/// Not `Limited`: with it, the compiler cannot see that this may be sent to another thread.
async fn whole(mut body: Body) -> Result<Bytes, RegistryError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(RegistryError::Body)?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if ANSWER_MAX < bytes.len() {
            let error = format!("it sent more than {ANSWER_MAX} bytes");
            return Err(RegistryError::Body(error.into()));
        }
    }
    Ok(bytes.freeze())
}
