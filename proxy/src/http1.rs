//! Forwards HTTP/1.1 requests: to one member, or to the next where that does no harm.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::{self, Instant};
use tracing::debug;

use crate::answers::Refusal;
use crate::body::AnswerBody;
use crate::client::Head;
use crate::endpoint::{Endpoint, Standing};
use crate::exchange::{self, Failure, Reply};
use crate::headers::LOOP;
use crate::proxy::Proxy;
use crate::request::{Draft, Incomplete, Outgoing, Subject};
use crate::turns::Turns;

/// However late it is, the leader is given this time to answer before a member that is behind is believed.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// More than a member's own patience, which is the request timeout.
const GRACE: Duration = Duration::from_secs(1);

/// Forwards a request and returns the whole answer, or its beginning.
pub(crate) async fn forward(proxy: &Proxy, draft: Draft) -> Result<Response<AnswerBody>, Refusal> {
    let completed = draft.complete().await;
    let mut request = completed.map_err(|incomplete| match incomplete {
        Incomplete::Gone => Refusal::Client,
        Incomplete::Late => Refusal::Late,
    })?;
    let reply = forward_in(
        &mut Turns::of_request(proxy, request.read),
        proxy,
        &mut request,
    )
    .await?;
    reply.into_response().map_err(|error| {
        debug!(%error, "an answer broke off");
        refusal(&request)
    })
}

/// The beginning of a member's answer, for a read one that knows of all that clients of this proxy were
/// told, if it can be known, and there is one in time.
pub(crate) async fn forward_in(
    turns: &mut Turns<'_>,
    proxy: &Proxy,
    request: &mut Outgoing,
) -> Result<Reply, Refusal> {
    match request.subject {
        Subject::Keys => forward_keys(turns, proxy, request).await,
        Subject::Cluster => forward_cluster(turns, proxy, request).await,
        Subject::Other => forward_to_any(turns, proxy, request).await,
    }
}

/// Members do not say how much they know of each other and of accounts. Who has answered the last change
/// knows it, and otherwise the leader does.
async fn forward_cluster(
    turns: &mut Turns<'_>,
    proxy: &Proxy,
    request: &mut Outgoing,
) -> Result<Reply, Refusal> {
    turns.go_to_the_leader();
    if request.read {
        follow_change(turns, proxy);
    }
    let reply = forward_to_any(turns, proxy, request).await?;
    if !request.read && reply.head.status.is_success() {
        proxy.newest.changed_by(&reply.endpoint);
    }
    Ok(reply)
}

/// After a change of members or accounts, whoever knows it is asked; who may see a key is decided by what
/// a member knows of accounts.
pub(crate) fn follow_change(turns: &mut Turns<'_>, proxy: &Proxy) {
    if proxy.newest.changed_lately() {
        turns.go_to_the_leader();
        if let Some(endpoint) = proxy.newest.changer() {
            turns.begin_with(endpoint);
        }
    }
}

async fn forward_keys(
    turns: &mut Turns<'_>,
    proxy: &Proxy,
    request: &mut Outgoing,
) -> Result<Reply, Refusal> {
    let known = proxy.newest.known();
    follow_change(turns, proxy);
    if proxy.newest.lagged_lately() {
        turns.go_to_the_leader();
    }
    let mut reply = forward_to_any(turns, proxy, request).await?;
    if !request.read {
        proxy.newest.told(reply.head.index);
        return Ok(reply);
    }
    if request.rest.is_none()
        && let Some(until) = proxy.newest.behind(known, reply.head.read_at())
    {
        reply = Box::pin(catch_up(proxy, request, reply, known, until)).await;
    }
    // The next answer may be another member's, and must not be older.
    proxy.newest.told(reply.head.read_at());
    Ok(reply)
}

/// Asks again, the leader or whoever there is, until a member knows enough, or it has taken too long.
/// One that does not is better than none, in the end.
async fn catch_up(
    proxy: &Proxy,
    request: &mut Outgoing,
    mut reply: Reply,
    known: u64,
    until: Instant,
) -> Reply {
    let until = until.max(Instant::now() + LAST_LOOK);
    // The leader knows most, if it is known itself.
    let mut turns = Turns::of_request(proxy, false);
    // Whoever cannot be reached says nothing of how far the cluster is.
    while let Ok(Ok(next)) =
        time::timeout_at(until, forward_to_any(&mut turns, proxy, request)).await
    {
        if supersedes(&next.head, &reply.head) {
            // The connection can be used again, if that was all.
            drop(std::mem::replace(&mut reply, next).into_response());
        }
        if proxy.newest.behind(known, reply.head.read_at()).is_none() {
            return reply;
        }
    }
    proxy.newest.not_found(reply.head.read_at());
    reply
}

/// Whether an answer to a read is to be preferred to an older one. A refusal without a look at the
/// store is the cluster's word as well; a failure is nobody's.
fn supersedes(next: &Head, held: &Head) -> bool {
    match next.read_at() {
        Some(index) => held.read_at() <= Some(index),
        None => next.status.is_client_error(),
    }
}

async fn forward_to_any(
    turns: &mut Turns<'_>,
    proxy: &Proxy,
    request: &mut Outgoing,
) -> Result<Reply, Refusal> {
    let mut unanswered = false;
    while let Some(endpoint) = turns.next().await {
        match attempt(proxy, &endpoint, request).await {
            Ok(reply) if leads_back(proxy, &reply) && request.rest.is_none() => {
                // It came back here and was refused, so it was not done.
                proxy.endpoints.stands(&endpoint, Standing::Loop);
            }
            Ok(reply) => return Ok(reply),
            Err(failure) => {
                debug!(endpoint = %endpoint.url, %failure, "a member failed");
                match failure {
                    Failure::Client => return Err(Refusal::Client),
                    // It is not the member's fault.
                    Failure::Crowded(_) => return Err(Refusal::Crowded),
                    Failure::Unsent(_) | Failure::Unanswered(_) | Failure::Cut { .. } => {}
                }
                turns.failed(&endpoint);
                if !exchange::may_repeat(&failure, request) {
                    return Err(refusal(request));
                }
                unanswered |= failure.is_unclear();
            }
        }
    }
    Err(match unanswered {
        true => Refusal::NoAnswer,
        false => Refusal::ZeroEndpoints,
    })
}

/// What a request without an answer comes to.
pub(crate) fn refusal(request: &Outgoing) -> Refusal {
    match request.read {
        true => Refusal::NoAnswer,
        false => Refusal::OutcomeUnknown,
    }
}

fn leads_back(proxy: &Proxy, reply: &Reply) -> bool {
    reply.head.status == StatusCode::LOOP_DETECTED
        && reply
            .head
            .headers()
            .get(LOOP)
            .is_some_and(|id| *id == proxy.id)
}

/// One attempt. Whoever takes long is looked at; reads leave a member that turns out to be gone, others give
/// it their time to come back, and what has a known end is not waited for much longer.
async fn attempt(
    proxy: &Proxy,
    endpoint: &Arc<Endpoint>,
    request: &mut Outgoing,
) -> Result<Reply, Failure> {
    let read = request.read;
    let bound = proxy.config.request_timeout + GRACE;
    let limit = match request.subject == Subject::Keys && request.rest.is_none() {
        true => bound,
        // A lock may be waited for as long as one likes, and so may a profile.
        false => Duration::MAX,
    };
    let mut exchange = pin!(exchange::exchange(endpoint, request, proxy));
    if let Some(replied) = proxy.pulse.soon(exchange.as_mut()).await {
        return replied;
    }
    // Seldom, and in a box: it would make room for itself in every request.
    let patient = async {
        endpoint.suspect();
        tokio::select! {
            replied = exchange => replied,
            () = endpoint.lost(), if read => Err(gone()),
            () = lost_for(endpoint, bound), if !read => Err(gone()),
            () = sleep(limit) => Err(gone()),
        }
    };
    Box::pin(patient).await
}

/// Returns when the member is gone, and was so long ago and is not back.
async fn lost_for(endpoint: &Endpoint, time: Duration) {
    loop {
        endpoint.lost().await;
        time::sleep(time).await;
        if endpoint.is_lost() {
            return;
        }
    }
}

/// For ever, when it is so long that the clock cannot tell.
fn sleep(limit: Duration) -> impl Future<Output = ()> {
    let limited = limit != Duration::MAX;
    async move {
        match limited {
            true => time::sleep(limit).await,
            false => std::future::pending().await,
        }
    }
}

/// A member that has the request and does not answer.
pub(crate) fn gone() -> Failure {
    Failure::Unanswered(io::ErrorKind::TimedOut.into())
}
