//! The calls to the v2 API of the cluster that is followed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use keelson_proto::internal::{TreeEvent, TreeEventNode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::shown::{self, ShownError};
use crate::commands::access::MemberAccess;
use crate::commands::channel::Connection;

/// The longest wait for the head of an answer, and for a listing.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The largest listing, in bytes; larger ones are read directory by directory.
const LISTING_BYTES_MAX: usize = 64 << 20;
/// The largest event, in bytes: two values of the largest request, in JSON.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// What a path keeps as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.');
/// etcd's codes: no such node; a file in the way; and ours of a listing that is too large.
const NOT_FOUND: [u32; 2] = [100, 104];
const TOO_LARGE: u32 = 209;
const CLEARED: u32 = 401;

/// Why the v2 API of a member does not answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::commands::follow) enum TreeSourceError {
    #[error("it serves no v2 keys")]
    Off,
    #[error("its answers have no X-Etcd-Index, or none that is a number")]
    NoIndex,
    #[error("the listing is too large")]
    TooLarge,
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The v2 API of a member.
pub(super) struct TreeSource {
    pub(super) url: String,
    access: Arc<MemberAccess>,
    /// Whether it requires a user: the v2 API has users of its own.
    with_user: bool,
    idle: Option<Connection>,
}

/// A directory at an index; `None` if there is none.
pub(super) struct ListedDirectory {
    pub(super) nodes: Option<Vec<TreeEventNode>>,
    pub(super) index: u64,
}

/// The begin of a wait.
pub(super) enum Wait {
    /// The history begins later.
    Cleared {
        oldest: u64,
    },
    Begun(PendingWait),
}

/// A wait for the first event from an index on.
pub(super) struct PendingWait {
    pub(super) from: u64,
    /// The source's index when it began. If the event is of no later one, it comes at once.
    pub(super) index: u64,
    pub(super) began: Instant,
    body: JoinHandle<WaitEnd>,
    end: Option<Result<WaitEnd, JoinError>>,
}

/// The body of the answer to a wait, and its connection.
type WaitEnd = io::Result<(Bytes, Connection)>;

impl PendingWait {
    /// Waits until the wait has ended. Nothing is lost if the future is dropped.
    pub(super) async fn over(&mut self) {
        if self.end.is_none() {
            self.end = Some((&mut self.body).await);
        }
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some() || self.body.is_finished()
    }

    /// Waits for the event; `None` if the source has ended the wait. Nothing is lost if the future
    /// is dropped.
    pub(super) async fn event(
        &mut self,
        source: &mut TreeSource,
    ) -> Result<Option<TreeEvent>, TreeSourceError> {
        self.over().await;
        let gone = || io::Error::other("the wait has ended before");
        let end = self.end.take().ok_or_else(gone)?;
        let (bytes, connection) = end.map_err(io::Error::other)??;
        source.idle = Some(connection);
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        let event = shown::event(&bytes).map_err(TreeSourceError::Refused)?;
        Ok(Some(event))
    }
}

impl Drop for PendingWait {
    fn drop(&mut self) {
        self.body.abort();
    }
}

impl TreeSource {
    pub(super) fn new(url: &str, access: &Arc<MemberAccess>) -> TreeSource {
        TreeSource {
            url: url.to_owned(),
            access: Arc::clone(access),
            with_user: false,
            idle: None,
        }
    }

    /// Reads a directory with everything below it but hidden nodes, or with its children alone. The
    /// index is at least that of every answer before, of any member.
    pub(super) async fn list(
        &mut self,
        path: &[u8],
        recursive: bool,
    ) -> Result<ListedDirectory, TreeSourceError> {
        let path = percent_encode(path, PATH);
        let target = format!("/v2/keys{path}?quorum=true&recursive={recursive}");
        let (status, headers, body, connection) = self.answer(&target).await?;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let body = Limited::new(body, LISTING_BYTES_MAX).collect();
        let Ok(body) = timeout(ANSWER_MAX, body).await.map_err(late)? else {
            return Err(TreeSourceError::TooLarge);
        };
        let body = body.to_bytes();
        self.idle = Some(connection);
        if status == StatusCode::OK {
            let index = index(&headers)?;
            let nodes = spawn_blocking(move || shown::listing(&body)).await;
            let nodes = nodes.map_err(io::Error::other)?;
            // Nested too deep for a parser, or no listing: each directory alone is neither.
            let nodes = Some(nodes.map_err(|_| TreeSourceError::TooLarge)?);
            return Ok(ListedDirectory { nodes, index });
        }
        match ShownError::of(&body) {
            error if NOT_FOUND.contains(&error.error_code) => {
                let index = index(&headers)?;
                Ok(ListedDirectory { nodes: None, index })
            }
            error if error.error_code == TOO_LARGE => Err(TreeSourceError::TooLarge),
            error => Err(refused(status, &error)),
        }
    }

    /// Waits for the first event from an index on; hidden nodes are in it if it is a past one.
    pub(super) async fn wait(&mut self, from: u64) -> Result<Wait, TreeSourceError> {
        let target = format!("/v2/keys/?wait=true&recursive=true&waitIndex={from}");
        let (status, headers, body, connection) = self.answer(&target).await?;
        if status == StatusCode::OK {
            let index = index(&headers)?;
            let body = async move {
                let body = Limited::new(body, EVENT_BYTES_MAX).collect().await;
                let body = body.map_err(io::Error::other)?;
                Ok((body.to_bytes(), connection))
            };
            return Ok(Wait::Begun(PendingWait {
                from,
                index,
                began: Instant::now(),
                body: tokio::spawn(body),
                end: None,
            }));
        }
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let body = Limited::new(body, EVENT_BYTES_MAX).collect();
        let body = timeout(ANSWER_MAX, body).await.map_err(late)?;
        let error = ShownError::of(&body.map_err(io::Error::other)?.to_bytes());
        match error.oldest().filter(|_| error.error_code == CLEARED) {
            Some(oldest) => Ok(Wait::Cleared { oldest }),
            None => Err(refused(status, &error)),
        }
    }

    async fn answer(
        &mut self,
        target: &str,
    ) -> Result<(StatusCode, HeaderMap, Incoming, Connection), TreeSourceError> {
        loop {
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            let answer = timeout(ANSWER_MAX, self.send(target)).await;
            let (head, connection) = answer.map_err(late)??;
            let (head, body) = head.into_parts();
            let is_refused = head.status == StatusCode::UNAUTHORIZED;
            if is_refused && !self.with_user && self.access.basic().is_some() {
                self.with_user = true;
                continue;
            }
            return Ok((head.status, head.headers, body, connection));
        }
    }

    async fn send(&mut self, target: &str) -> io::Result<(http::Response<Incoming>, Connection)> {
        let user = self.access.basic().filter(|_| self.with_user);
        if let Some(mut connection) = self.idle.take().filter(Connection::is_open)
            && let Ok(answer) = connection.get(target, user.as_deref()).await
        {
            return Ok((answer, connection));
        }
        // The idle one was closed meanwhile. A read may be repeated.
        let uri: Uri = self.url.parse().map_err(io::Error::other)?;
        let mut connection = Connection::open(&uri, self.access.tls()).await?;
        let answer = connection.get(target, user.as_deref()).await?;
        Ok((answer, connection))
    }
}

/// No index is not the index 0: a gateway may strip the header.
fn index(headers: &HeaderMap) -> Result<u64, TreeSourceError> {
    let index = headers.get("x-etcd-index");
    let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
    index.ok_or(TreeSourceError::NoIndex)
}

fn refused(status: StatusCode, error: &ShownError) -> TreeSourceError {
    match status {
        StatusCode::NOT_FOUND if error.error_code == 0 => TreeSourceError::Off,
        _ => {
            let (message, cause) = (&error.message, &error.cause);
            TreeSourceError::Refused(format!("it answers {status} {message} {cause}"))
        }
    }
}
