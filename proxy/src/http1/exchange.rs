//! One request to one member.

use std::io;
use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt;

use crate::config::ProxyConfig;
use crate::context::Context;
use crate::http1::body::{AnswerBody, MemberBody};
use crate::http1::client::{Connection, Head, framing};
use crate::http1::raft_term::TermFilter;
use crate::http1::request::{StreamedBody, UpstreamRequest};
use crate::policy::endpoint::Endpoint;
use crate::sockets::{self, SocketPermit};

/// Why a member has not answered. Whether the request may be repeated depends on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The member did not receive all of the request, so it did not execute it.
    #[error("it did not take the request: {0}")]
    Unsent(io::Error),
    /// The member received the request; whether it executed it is unknown.
    #[error("it did not answer: {0}")]
    Unanswered(io::Error),
    /// This process has no file descriptor for a connection.
    #[error("there is no file descriptor for a connection to it: {0}")]
    Crowded(io::Error),
    /// This process closed the connection to make room for others.
    #[error("the connection was cut, for others")]
    Cut {
        /// Nothing of the request was sent.
        unsent: bool,
    },
    /// The client did not send the whole request; the member did not execute it.
    #[error("the client left")]
    Client,
}

impl Failure {
    /// The failure to establish a connection.
    pub(crate) fn of_connecting(error: io::Error) -> Failure {
        match sockets::is_out_of_descriptors(&error) {
            true => Failure::Crowded(error),
            false => Failure::Unsent(error),
        }
    }

    /// Whether the member failed, and not this process or the client.
    pub(crate) fn is_the_members(&self) -> bool {
        matches!(self, Failure::Unsent(_) | Failure::Unanswered(_))
    }

    /// Whether the member may have executed the request.
    pub(crate) fn is_unclear(&self) -> bool {
        matches!(
            self,
            Failure::Unanswered(_) | Failure::Cut { unsent: false }
        )
    }
}

/// The beginning of an answer.
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(super) connection: Connection,
    /// Corrects the terms of the body.
    pub(super) terms: Option<Box<TermFilter>>,
}

impl Reply {
    /// The head, and the body that has arrived or will.
    pub(crate) fn into_parts(self) -> (Head, MemberBody) {
        let Head { framing, keep, .. } = self.head;
        let mut body = MemberBody::new(self.connection, self.endpoint, framing, keep);
        body.terms = self.terms;
        (self.head, body)
    }

    /// The same, with the whole body if it has arrived.
    pub(crate) fn begin(self) -> io::Result<(Head, AnswerBody)> {
        let (head, body) = self.into_parts();
        Ok((head, body.whole()?))
    }
}

/// A response with a member's head. The body may be another.
pub(crate) fn response<B>(head: Head, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers();
    response
}

/// Sends the request and waits for the head of the answer. A pooled connection may turn out to be
/// closed: a request that was certainly not executed, or that only reads, is then sent over a new
/// one.
pub(crate) async fn exchange(
    endpoint: &Arc<Endpoint>,
    request: &mut UpstreamRequest,
    context: &Context,
) -> Result<Reply, Failure> {
    let config = &context.config;
    if let Some(mut connection) = endpoint.idle_connection(request.read) {
        match converse(&mut connection, request, config).await {
            Ok(head) => return Ok(reply(head, connection, endpoint)),
            Err(failure) => {
                endpoint.drop_idle();
                if !may_repeat(&failure, request) {
                    return Err(failure);
                }
            }
        }
    }
    // Boxed, as is the streamed body below: most requests need neither.
    let mut connection = Box::pin(open(endpoint, context)).await?;
    let head = converse(&mut connection, request, config).await?;
    Ok(reply(head, connection, endpoint))
}

async fn open(endpoint: &Endpoint, context: &Context) -> Result<Connection, Failure> {
    let permit = permit(context).await.map_err(Failure::Crowded)?;
    let connected = endpoint.new_connection(context.config.dial_timeout).await;
    let connection = connected.map_err(Failure::of_connecting)?;
    Ok(connection.with_permit(permit))
}

/// A permit for one socket to a member. If none is free, all idle connections are closed first.
async fn permit(context: &Context) -> io::Result<SocketPermit> {
    if let Some(permit) = context.sockets.free_permit() {
        return Ok(permit);
    }
    for endpoint in context.endpoints.list() {
        endpoint.drop_idle();
    }
    context.sockets.permit(context.config.request_timeout).await
}

fn reply(head: Head, connection: Connection, endpoint: &Arc<Endpoint>) -> Reply {
    Reply {
        head,
        connection,
        endpoint: Arc::clone(endpoint),
        terms: None,
    }
}

/// Whether the request may be sent again, to this member or another.
pub(crate) fn may_repeat(failure: &Failure, request: &UpstreamRequest) -> bool {
    match failure {
        Failure::Unanswered(_) | Failure::Cut { unsent: false } => {
            request.read && request.is_kept()
        }
        Failure::Unsent(_) | Failure::Crowded(_) | Failure::Cut { .. } => true,
        Failure::Client => false,
    }
}

async fn converse(
    connection: &mut Connection,
    request: &mut UpstreamRequest,
    config: &ProxyConfig,
) -> Result<Head, Failure> {
    let sending = connection.send(&request.bytes, config.write_timeout);
    sending.await.map_err(Failure::Unsent)?;
    let mut early = false;
    if let Some(rest) = &mut request.streamed {
        early = Box::pin(pass_on(connection, rest, config)).await?;
    }
    let head = connection.head(&request.method).await;
    let mut head = head.map_err(Failure::Unanswered)?;
    // The member has not read the rest of the request's body.
    head.keep &= !early;
    Ok(head)
}

/// Sends a large body as it arrives. Returns whether the member answered before its end.
///
/// A failure is never `Unsent`: the part of the body that was sent is not kept.
async fn pass_on(
    connection: &mut Connection,
    rest: &mut StreamedBody,
    config: &ProxyConfig,
) -> Result<bool, Failure> {
    loop {
        let frame = tokio::select! {
            frame = rest.body.frame() => frame,
            () = connection.answers() => return Ok(true),
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Failure::Client)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let sent = match rest.chunked {
            true => {
                connection
                    .send(&framing::chunk(&data), config.write_timeout)
                    .await
            }
            false => connection.send(&data, config.write_timeout).await,
        };
        sent.map_err(Failure::Unanswered)?;
    }
    if rest.chunked {
        let sent = connection
            .send(framing::LAST_CHUNK, config.write_timeout)
            .await;
        sent.map_err(Failure::Unanswered)?;
    }
    Ok(false)
}
