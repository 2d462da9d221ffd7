//! Forwards HTTP/1.1 requests: to one member, or to the next where that does no harm.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tokio::time::{self, Instant};
use tracing::debug;

use crate::answers::Refusal;
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::http1::client::Head;
use crate::http1::exchange::{self, Failure, Reply};
use crate::http1::request::{Draft, Incomplete, Subject, UpstreamRequest};
use crate::policy::attempts::Attempts;
use crate::policy::endpoint::{Endpoint, Health};

/// However late it is, the leader is given this time to answer before a member that is behind is believed.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// More than a member's own patience, which is the request timeout.
const GRACE: Duration = Duration::from_secs(1);

/// Forwards a request and returns the whole answer, or its beginning.
pub(crate) async fn forward(
    context: &Context,
    draft: Draft,
) -> Result<Response<AnswerBody>, Refusal> {
    let completed = draft.complete().await;
    let mut request = completed.map_err(|incomplete| match incomplete {
        Incomplete::Gone => Refusal::Client,
        Incomplete::Late => Refusal::Late,
    })?;
    let reply = forward_in(
        &mut Attempts::of_request(context, request.read),
        context,
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
    attempts: &mut Attempts<'_>,
    context: &Context,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    match request.subject {
        Subject::Keys => forward_keys(attempts, context, request).await,
        Subject::Cluster => forward_cluster(attempts, context, request).await,
        Subject::Other => forward_to_any(attempts, context, request).await,
    }
}

/// Members do not say how much they know of each other and of accounts. Who has answered the last change
/// knows it, and otherwise the leader does.
async fn forward_cluster(
    attempts: &mut Attempts<'_>,
    context: &Context,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    attempts.prefer_leader();
    if request.read {
        follow_change(attempts, context);
    }
    let reply = forward_to_any(attempts, context, request).await?;
    if !request.read && reply.head.status.is_success() {
        context.high_water_mark.observe_change(&reply.endpoint);
    }
    Ok(reply)
}

/// After a change of members or accounts, whoever knows it is asked; who may see a key is decided by what
/// a member knows of accounts.
pub(crate) fn follow_change(attempts: &mut Attempts<'_>, context: &Context) {
    if context.high_water_mark.changed_recently() {
        attempts.prefer_leader();
        if let Some(endpoint) = context.high_water_mark.recent_changer() {
            attempts.try_first(endpoint);
        }
    }
}

async fn forward_keys(
    attempts: &mut Attempts<'_>,
    context: &Context,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    let known = context.high_water_mark.current();
    follow_change(attempts, context);
    if context.high_water_mark.lagged_recently() {
        attempts.prefer_leader();
    }
    let mut reply = forward_to_any(attempts, context, request).await?;
    if !request.read {
        context.high_water_mark.observe(reply.head.index);
        return Ok(reply);
    }
    if request.rest.is_none()
        && let Some(until) = context
            .high_water_mark
            .stale_until(known, reply.head.read_at())
    {
        reply = Box::pin(catch_up(context, request, reply, known, until)).await;
    }
    // The next answer may be another member's, and must not be older.
    context.high_water_mark.observe(reply.head.read_at());
    Ok(reply)
}

/// Asks again, the leader or whoever there is, until a member knows enough, or it has taken too long.
/// One that does not is better than none, in the end.
async fn catch_up(
    context: &Context,
    request: &mut UpstreamRequest,
    mut reply: Reply,
    known: u64,
    until: Instant,
) -> Reply {
    let until = until.max(Instant::now() + LAST_LOOK);
    // The leader knows most, if it is known itself.
    let mut attempts = Attempts::of_request(context, false);
    // Whoever cannot be reached says nothing of how far the cluster is.
    while let Ok(Ok(next)) =
        time::timeout_at(until, forward_to_any(&mut attempts, context, request)).await
    {
        if supersedes(&next.head, &reply.head) {
            // The connection can be used again, if that was all.
            drop(std::mem::replace(&mut reply, next).into_response());
        }
        if context
            .high_water_mark
            .stale_until(known, reply.head.read_at())
            .is_none()
        {
            return reply;
        }
    }
    context.high_water_mark.give_up(reply.head.read_at());
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
    attempts: &mut Attempts<'_>,
    context: &Context,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    let mut unanswered = false;
    while let Some(endpoint) = attempts.next().await {
        match attempt(context, &endpoint, request).await {
            Ok(reply) if context.leads_back(&reply.head) && request.rest.is_none() => {
                // It came back here and was refused, so it was not done.
                context.endpoints.set_health(&endpoint, Health::SelfLoop);
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
                attempts.failed(&endpoint);
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
pub(crate) fn refusal(request: &UpstreamRequest) -> Refusal {
    match request.read {
        true => Refusal::NoAnswer,
        false => Refusal::OutcomeUnknown,
    }
}

/// One attempt. Whoever takes long is looked at; reads leave a member that turns out to be gone, others give
/// it their time to come back, and what has a known end is not waited for much longer.
async fn attempt(
    context: &Context,
    endpoint: &Arc<Endpoint>,
    request: &mut UpstreamRequest,
) -> Result<Reply, Failure> {
    let read = request.read;
    let bound = context.config.request_timeout + GRACE;
    let limit = match request.subject == Subject::Keys && request.rest.is_none() {
        true => bound,
        // A lock may be waited for as long as one likes, and so may a profile.
        false => Duration::MAX,
    };
    let mut exchange = pin!(exchange::exchange(endpoint, request, context));
    if let Some(replied) = context
        .coarse_timer
        .with_slow_timeout(exchange.as_mut())
        .await
    {
        return replied;
    }
    // Seldom, and in a box: it would make room for itself in every request.
    let patient = async {
        endpoint.wake_health_check();
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
