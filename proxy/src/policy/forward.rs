//! Forwards a request: to one member, or to the next where a second attempt does no harm.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};
use tracing::debug;

use crate::answers::Refusal;
use crate::context::Context;
use crate::http1::body::AnswerBody;
use crate::http1::client::Head;
use crate::http1::exchange::{self, Failure, Reply};
use crate::http1::request::UpstreamRequest;
use crate::policy::attempts::Attempts;
use crate::policy::endpoint::{Endpoint, Health};
use crate::policy::subject::Subject;
use crate::policy::terms::{self, Settled};

/// The time that the leader always gets before a stale answer is used.
const LEADER_GRACE: Duration = Duration::from_millis(300);

/// How much longer than the request timeout, after which members give up themselves, an answer may
/// take.
const MEMBER_GRACE: Duration = Duration::from_secs(1);

/// Forwards a request. Returns the head of the answer, with the body as far as it has arrived.
pub(crate) async fn forward(
    context: &Context,
    request: &mut UpstreamRequest,
) -> Result<(Head, AnswerBody), Refusal> {
    let mut attempts = Attempts::of_request(context, request.read);
    let reply = match request.subject {
        Subject::Keys => keys(&mut attempts, request).await,
        Subject::Cluster => cluster(&mut attempts, request).await,
        Subject::Other => send(&mut attempts, request).await,
    };
    let reply = match terms::settle(context, request, reply?) {
        Settled::Now(reply) => reply,
        Settled::Later(later) => later.await?,
    };
    reply.begin().map_err(|error| {
        debug!(%error, "the answer's connection failed");
        refusal(request)
    })
}

/// Answers about members and accounts carry no index. The member that answered the latest change
/// has it, and otherwise the leader has.
async fn cluster(
    attempts: &mut Attempts<'_>,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    attempts.prefer_leader();
    if request.read {
        follow_change(attempts);
    }
    let reply = send(attempts, request).await?;
    if !request.read && reply.head.status.is_success() {
        let mark = &attempts.context().high_water_mark;
        mark.observe_change(&reply.endpoint);
    }
    Ok(reply)
}

/// After a change of members or accounts, prefers the member that answered it. This concerns keys
/// too: a member checks access by the accounts that it has.
pub(crate) fn follow_change(attempts: &mut Attempts<'_>) {
    let mark = &attempts.context().high_water_mark;
    if mark.changed_recently() {
        attempts.prefer_leader();
        if let Some(endpoint) = mark.recent_changer() {
            attempts.try_first(endpoint);
        }
    }
}

/// A read of keys is not answered from a state older than one that clients of this proxy have seen,
/// if a newer answer arrives in time.
async fn keys(
    attempts: &mut Attempts<'_>,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    let mark = &attempts.context().high_water_mark;
    let current = mark.current();
    follow_change(attempts);
    if mark.lagged_recently() {
        attempts.prefer_leader();
    }
    let mut reply = send(attempts, request).await?;
    if !request.read {
        mark.observe(reply.head.index);
        return Ok(reply);
    }
    if request.is_kept()
        && let Some(until) = mark.stale_until(current, reply.head.read_at())
    {
        reply = Box::pin(catch_up(attempts.context(), request, reply, current, until)).await;
    }
    // The next answer may be another member's, and must not be older.
    mark.observe(reply.head.read_at());
    Ok(reply)
}

/// Sends a read again, to the leader if it is known, until an answer is new enough or the time is
/// over. A stale answer is used in the end.
async fn catch_up(
    context: &Context,
    request: &mut UpstreamRequest,
    mut reply: Reply,
    current: u64,
    until: Instant,
) -> Reply {
    let until = until.max(Instant::now() + LEADER_GRACE);
    let mut attempts = Attempts::of_request(context, false);
    // Members that cannot be reached prove nothing of the cluster's index.
    while let Ok(Ok(next)) = time::timeout_at(until, send(&mut attempts, request)).await {
        if supersedes(&next.head, &reply.head) {
            // If the body has arrived, the connection can be used again.
            drop(std::mem::replace(&mut reply, next).begin());
        }
        let read_at = reply.head.read_at();
        if context
            .high_water_mark
            .stale_until(current, read_at)
            .is_none()
        {
            return reply;
        }
    }
    context.high_water_mark.give_up(reply.head.read_at());
    reply
}

/// Whether an answer to a read replaces an earlier one. A refusal that needed no look at the store
/// is the cluster's answer too; a failure is not.
fn supersedes(next: &Head, held: &Head) -> bool {
    match next.read_at() {
        Some(index) => held.read_at() <= Some(index),
        None => next.status.is_client_error(),
    }
}

/// Sends a request to one member after the other, as far as that does no harm.
pub(crate) async fn send(
    attempts: &mut Attempts<'_>,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    let context = attempts.context();
    let mut unanswered = false;
    while let Some(endpoint) = attempts.next().await {
        match attempt(context, &endpoint, request).await {
            Ok(reply) if context.leads_back(&reply.head) && request.is_kept() => {
                // This proxy has refused it, so it was not executed.
                context.endpoints.set_health(&endpoint, Health::SelfLoop);
            }
            Ok(reply) => return Ok(reply),
            Err(failure) => {
                debug!(endpoint = %endpoint.url, %failure, "a member failed");
                match failure {
                    Failure::Client => return Err(Refusal::Client),
                    // The member has not failed.
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

/// The refusal of a request that a member received and did not answer.
fn refusal(request: &UpstreamRequest) -> Refusal {
    match request.read {
        true => Refusal::NoAnswer,
        false => Refusal::OutcomeUnknown,
    }
}

/// One attempt. A slow member gets a health check. A read leaves a member that turns out to be
/// down; other requests give it time to come back. Requests whose duration members bound have a
/// time limit.
async fn attempt(
    context: &Context,
    endpoint: &Arc<Endpoint>,
    request: &mut UpstreamRequest,
) -> Result<Reply, Failure> {
    let read = request.read;
    let bound = context.config.request_timeout + MEMBER_GRACE;
    let limit = match request.subject == Subject::Keys && request.is_kept() {
        true => bound,
        // A lock may be waited for without limit, and so may a profile.
        false => Duration::MAX,
    };
    let mut exchange = pin!(exchange::exchange(endpoint, request, context));
    let soon = context.coarse_timer.with_slow_timeout(exchange.as_mut());
    if let Some(replied) = soon.await {
        return replied;
    }
    // Rare, and boxed: otherwise it would enlarge the future of every request.
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

/// Returns when the member has been down for this time.
async fn lost_for(endpoint: &Endpoint, time: Duration) {
    loop {
        endpoint.lost().await;
        time::sleep(time).await;
        if endpoint.is_lost() {
            return;
        }
    }
}

/// `Duration::MAX`, which overflows the clock, is for ever.
fn sleep(limit: Duration) -> impl Future<Output = ()> {
    let limited = limit != Duration::MAX;
    async move {
        match limited {
            true => time::sleep(limit).await,
            false => std::future::pending().await,
        }
    }
}

/// The failure of a member that received the request and does not answer.
pub(crate) fn gone() -> Failure {
    Failure::Unanswered(io::ErrorKind::TimedOut.into())
}
