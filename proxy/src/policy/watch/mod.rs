//! Watches of the v2 API: long polls and streams, which outlive the member that answers them.
//!
//! A watch is forwarded like any read. Its member's answer begins at once and its events come
//! later; until then an HTTP/1.1 connection is parked: a socket to the client, a socket to the
//! member, and no buffers. When the member fails, the watch resumes at another one, from the index
//! that it had reached. The client has its head already and does not notice. The answer is cut when
//! the other member belongs to a cluster that was set up since, or its history no longer has that
//! index, and at shutdown: the client then sends its request again.

mod request;
mod resume;
mod stream;

use std::sync::Arc;

pub(crate) use self::request::{WatchRequest, is_watch};
pub(crate) use self::stream::WatchStream;

use self::stream::last_index;
use crate::answers::Refusal;
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::http1::client::Head;
use crate::http1::request::UpstreamRequest;
use crate::policy::attempts::Attempts;
use crate::policy::{forward, terms};
use crate::sockets::WatchPermit;

/// The beginning of an answer to a watch.
pub(crate) enum Started {
    /// An event that the member's history had, or an error.
    Answered(AnswerBody),
    /// The events are still to come.
    Watching(Box<WatchStream>),
}

/// Sends a watch to a member and returns the beginning of the answer.
pub(crate) async fn start(
    context: &Arc<Context>,
    watch: WatchRequest,
    permit: Option<Box<WatchPermit>>,
) -> Result<(Head, Started), Refusal> {
    let mut request = watch.first();
    let mut attempts = Attempts::of_request(context, true);
    forward::follow_change(&mut attempts);
    let current = context.high_water_mark.current();
    let (mut head, mut body) = send(&mut attempts, &mut request).await?;
    // A watch from now on must not show its client an event that the client has caused or seen.
    if watch.since == 0
        && is_stale(context, current, &head, &body)
        && let Some(newer) = Box::pin(of_leader(context, &mut request, &head)).await
    {
        (head, body) = newer;
    }
    drop(request);
    let started = match body {
        AnswerBody::Member(body) if head.status == http::StatusCode::OK => {
            let events = WatchStream::new(context, watch, body, &head, permit);
            Started::Watching(Box::new(events))
        }
        AnswerBody::Whole(event) => {
            context.high_water_mark.observe(last_index(&event));
            Started::Answered(AnswerBody::Whole(event))
        }
        body => Started::Answered(body),
    };
    Ok((head, started))
}

async fn send(
    attempts: &mut Attempts<'_>,
    request: &mut UpstreamRequest,
) -> Result<(Head, AnswerBody), Refusal> {
    let reply = terms::send(attempts, request).await?;
    reply.begin().map_err(|_| Refusal::NoAnswer)
}

/// Whether a member watches from an index that clients of this proxy have passed, or answers with
/// an event that they have seen.
fn is_stale(context: &Context, current: u64, head: &Head, body: &AnswerBody) -> bool {
    let event = match body {
        AnswerBody::Whole(event) => last_index(event),
        _ => None,
    };
    let mark = &context.high_water_mark;
    event <= Some(current) && mark.stale_until(current, head.read_at()).is_some()
}

/// The leader's answer, if the leader is another member and its index is higher.
async fn of_leader(
    context: &Context,
    request: &mut UpstreamRequest,
    held: &Head,
) -> Option<(Head, AnswerBody)> {
    let mut attempts = Attempts::of_request(context, false);
    attempts.try_first(context.endpoints.leader.get()?);
    let (head, body) = send(&mut attempts, request).await.ok()?;
    let is_newer = head.status == http::StatusCode::OK && held.read_at() < head.read_at();
    is_newer.then_some((head, body))
}
