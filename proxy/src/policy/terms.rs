//! A term below one that a client has seen does not leave the proxy.
//!
//! Patroni takes an answer with a lower `raft_term` for that of a member that was cut off, and
//! refuses it. An answer of the v2 API has the term in `X-Raft-Term`, one of the JSON gateway in
//! its header. A read with a lower term is repeated until a member answers with the term, or a
//! higher one. A change is not repeated: it has taken place, in a term that its member had
//! reached, and its answer gets the highest term instead, which the cluster has reached as well.
//! So does each message of a stream.
//!
//! If no member has the term for some time, the cluster was set up anew or restored, and a member
//! with a leader is believed. Without a leader, its read is refused.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::attempts::Attempts;
use super::endpoint::Health;
use super::forward;
use crate::answers::Refusal;
use crate::context::Context;
use crate::http1::exchange::Reply;
use crate::http1::request::UpstreamRequest;
use crate::policy::subject::Subject;

/// The time that the leader always gets before a read is refused.
const LEADER_GRACE: Duration = Duration::from_millis(300);

/// The pause before a member that was behind is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends a request, and returns an answer that is settled.
pub(crate) async fn send(
    attempts: &mut Attempts<'_>,
    request: &mut UpstreamRequest,
) -> Result<Reply, Refusal> {
    let reply = forward::send(attempts, request).await?;
    match settle(attempts.context(), request, reply) {
        Settled::Now(reply) => Ok(reply),
        Settled::Later(later) => later.await,
    }
}

/// What becomes of an answer.
pub(crate) enum Settled<'a> {
    Now(Reply),
    /// It has to be read further, or the request to be repeated. Boxed: it would enlarge the future
    /// of every request.
    Later(Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send + 'a>>),
}

/// Makes sure that the term of an answer is not below one that clients have seen.
pub(crate) fn settle<'a>(
    context: &'a Context,
    request: &'a mut UpstreamRequest,
    reply: Reply,
) -> Settled<'a> {
    if request.gateway {
        return Settled::Later(Box::pin(of_gateway(context, request, reply)));
    }
    let found = reply.head.raft_term;
    judge(context, request, reply, found)
}

async fn of_gateway(
    context: &Context,
    request: &mut UpstreamRequest,
    mut reply: Reply,
) -> Result<Reply, Refusal> {
    reply.correct_terms(&context.raft_term);
    let mut found = None;
    // A change or a stream whose length is not stated is corrected while it passes.
    if request.read || reply.has_length() {
        let finding = reply.gateway_term();
        found = match time::timeout(context.config.request_timeout, finding).await {
            Ok(found) => found,
            // The member has begun to answer, and does not go on.
            Err(_) if request.read && request.is_kept() => {
                drop(reply);
                return catch_up(context, request, Instant::now()).await;
            }
            Err(_) => return Err(Refusal::OutcomeUnknown),
        };
    }
    match judge(context, request, reply, found) {
        Settled::Now(reply) => Ok(reply),
        Settled::Later(later) => later.await,
    }
}

fn judge<'a>(
    context: &'a Context,
    request: &'a mut UpstreamRequest,
    mut reply: Reply,
    found: Option<u64>,
) -> Settled<'a> {
    let mark = &context.raft_term;
    let Some(until) = mark.stale_until(u64::MAX, found) else {
        mark.observe(found);
        return Settled::Now(reply);
    };
    if !request.read || !request.is_kept() {
        reply.set_raft_term(request.gateway, mark.current());
        return Settled::Now(reply);
    }
    drop(reply);
    Settled::Later(Box::pin(catch_up(context, request, until)))
}

/// Repeats a read until its term is high enough, or the time is over.
async fn catch_up(
    context: &Context,
    request: &mut UpstreamRequest,
    until: Instant,
) -> Result<Reply, Refusal> {
    let mark = &context.raft_term;
    let current = context.high_water_mark.current();
    let until = until.max(Instant::now() + LEADER_GRACE);
    let mut attempts = Attempts::of_request(context, false);
    let mut last = None;
    while let Ok(Ok(mut reply)) =
        time::timeout_at(until, forward::send(&mut attempts, request)).await
    {
        let found = match request.gateway {
            false => reply.head.raft_term,
            true => {
                reply.correct_terms(&context.raft_term);
                match time::timeout_at(until, reply.gateway_term()).await {
                    Ok(found) => found,
                    Err(_) => break,
                }
            }
        };
        let index = reply
            .head
            .read_at()
            .filter(|_| request.subject == Subject::Keys);
        let is_old = context
            .high_water_mark
            .stale_until(current, index)
            .is_some();
        if !is_old && mark.stale_until(u64::MAX, found).is_none() {
            mark.observe(found);
            context.high_water_mark.observe(index);
            return Ok(reply);
        }
        last = Some((reply, found));
        time::sleep(PAUSE).await;
    }
    let (reply, found) = last.ok_or(Refusal::NoAnswer)?;
    if reply.endpoint.health() != Health::Healthy {
        return Err(Refusal::NoAnswer);
    }
    mark.give_up(found);
    match mark.stale_until(u64::MAX, found) {
        None => Ok(reply),
        Some(_) => Err(Refusal::NoAnswer),
    }
}
