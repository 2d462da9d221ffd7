//! One request to one member.

use std::io;
use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt;

use crate::config::ProxyConfig;
use crate::context::Context;
use crate::http1::body::{AnswerBody, MemberBody};
use crate::http1::client::{Connection, Head, framing};
use crate::http1::request::{StreamedBody, UpstreamRequest};
use crate::policy::endpoint::Endpoint;
use crate::sockets::{self, Place};

/// Why a member has not answered; what may be done about it depends on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The member has not got all of the request, so it has done nothing.
    #[error("it did not take the request: {0}")]
    Unsent(io::Error),
    /// It has got the request, and what came of it nobody knows.
    #[error("it did not answer: {0}")]
    Unanswered(io::Error),
    /// This process has no descriptor for a connection to it.
    #[error("there is no file descriptor for a connection to it: {0}")]
    Crowded(io::Error),
    /// This process has cut the connection, for others. If nothing was sent, nothing was done.
    #[error("the connection was cut, for others")]
    Cut {
        /// The member has got nothing of the request.
        unsent: bool,
    },
    /// The client has not sent what it promised; the member has done nothing.
    #[error("the client left")]
    Client,
}

impl Failure {
    /// Of a connection that could not be made.
    pub(crate) fn of_connecting(error: io::Error) -> Failure {
        match sockets::is_out_of_descriptors(&error) {
            true => Failure::Crowded(error),
            false => Failure::Unsent(error),
        }
    }

    /// Whether the member has failed, and not this process or the client.
    pub(crate) fn is_the_members(&self) -> bool {
        matches!(self, Failure::Unsent(_) | Failure::Unanswered(_))
    }

    /// Whether the member may have done what it was asked for.
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
    connection: Connection,
}

impl Reply {
    /// The body, here or to come.
    pub(crate) fn into_parts(self) -> (Head, MemberBody) {
        let Head { framing, keep, .. } = self.head;
        let body = MemberBody::new(self.connection, self.endpoint, framing, keep);
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

/// Sends the request and waits for the head of the answer. A connection from the pool may have died
/// unnoticed: what is surely not done, or does no harm twice, is then sent over a new one.
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
    // In a box, as is a large body below: most requests need neither.
    let mut connection = Box::pin(open(endpoint, context)).await?;
    let head = converse(&mut connection, request, config).await?;
    Ok(reply(head, connection, endpoint))
}

async fn open(endpoint: &Endpoint, context: &Context) -> Result<Connection, Failure> {
    let place = place(context).await.map_err(Failure::Crowded)?;
    let connected = endpoint.new_connection(context.config.dial_timeout).await;
    let connection = connected.map_err(Failure::of_connecting)?;
    Ok(connection.with_place(place))
}

/// A permit for one socket to a member. Without a free one an idle pooled connection, to any member,
/// is closed first.
async fn place(context: &Context) -> io::Result<Place> {
    if let Some(place) = context.sockets.free_place() {
        return Ok(place);
    }
    for endpoint in context.endpoints.list() {
        endpoint.drop_idle();
    }
    context.sockets.place(context.config.request_timeout).await
}

fn reply(head: Head, connection: Connection, endpoint: &Arc<Endpoint>) -> Reply {
    Reply {
        head,
        connection,
        endpoint: Arc::clone(endpoint),
    }
}

/// Whether the request may be sent again, to anybody.
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
    // The rest of the body is still to come, and nobody reads it.
    head.keep &= !early;
    Ok(head)
}

/// Sends a large body as it comes. Returns whether the member answered before its end.
///
/// A failure on the way is not `Unsent`: what has been passed on cannot be passed on again.
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
