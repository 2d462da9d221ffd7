//! The health checks of an endpoint: whether it answers, is healthy, leads, and its latency.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{self, Instant};
use tracing::debug;

use crate::context::Context;
use crate::http1::client::{Connection, Head};
use crate::http1::fetch;
use crate::policy::endpoint::{Endpoint, Health, WatchProgress};
use crate::policy::leader;
use crate::sockets;

/// Between two checks of a healthy member.
const INTERVAL: Duration = Duration::from_secs(10);

/// Between two checks of a member that is down while no other is usable.
const DOWN_INTERVAL: Duration = Duration::from_millis(100);

/// Between two checks while the leader is unknown.
const LEADER_SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// At least this time lies between two checks of a member that answers, however many slow requests
/// request one: the member may be slow because it is overloaded.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// For `/version` and for the leader's state, which cost a member little. Short, because reads
/// leave a slow member after this check, and some clients have a timeout of one second.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(600);

/// The size of an answer at `/version`.
const VERSION_BYTES_MAX: usize = 4096;

/// For `/health`, which takes a round of the whole cluster.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Checks an endpoint until it is removed.
pub(crate) async fn run(context: Arc<Context>, endpoint: Arc<Endpoint>) {
    while endpoint.health() != Health::Removed {
        if is_due(&context, &endpoint) {
            let health = probe(&context, &endpoint).await;
            context.endpoints.set_health(&endpoint, health);
            context.endpoints.log(&endpoint);
            context.endpoints.reconsider();
            if endpoint.health() == Health::Healthy
                && let Some(leads) = leads(&context, &endpoint).await
            {
                context.endpoints.leads(&endpoint, leads);
            }
            endpoint.close_idle();
            if endpoint.health() != Health::Down {
                time::sleep(INTERVAL_MIN).await;
            }
        }
        let pause = match endpoint.health() {
            Health::Down => DOWN_INTERVAL,
            Health::Healthy | Health::Degraded if context.endpoints.leader.is_sought() => {
                LEADER_SEARCH_INTERVAL
            }
            _ => INTERVAL,
        };
        let _ = time::timeout(pause, endpoint.woken()).await;
    }
    endpoint.link.close();
}

/// A member that is down is checked again after `failure_wait`, or at once while no member is
/// usable.
fn is_due(context: &Context, endpoint: &Endpoint) -> bool {
    match endpoint.health() {
        Health::Down => {
            context.config.failure_wait <= endpoint.down_for() || !context.endpoints.any()
        }
        _ => true,
    }
}

async fn probe(context: &Context, endpoint: &Endpoint) -> Health {
    let began = Instant::now();
    match time::timeout(ANSWER_TIMEOUT, send(context, endpoint, "/version")).await {
        Ok(Ok((_, head))) if context.leads_back(&head) => return Health::SelfLoop,
        Ok(Ok((connection, head))) => {
            endpoint.answered_in(began.elapsed());
            endpoint.set_progress(progress(connection, head).await);
        }
        Ok(Err(error)) => {
            debug!(endpoint = %endpoint.url, %error, "a probe failed");
            return after_error(endpoint, &error, Health::Down);
        }
        Err(_) => return Health::Down,
    }
    match time::timeout(HEALTH_TIMEOUT, get(context, endpoint, "/health")).await {
        Ok(Ok(head)) if head.status == StatusCode::OK => Health::Healthy,
        // The member has no such path, or requires a password for it.
        Ok(Ok(head)) if head.status.is_client_error() => Health::Healthy,
        Ok(Err(error)) => after_error(endpoint, &error, Health::Degraded),
        _ => Health::Degraded,
    }
}

/// The health after a failed probe. If this process had no free descriptor, the health stays as it
/// was.
fn after_error(endpoint: &Endpoint, error: &io::Error, health: Health) -> Health {
    match sockets::is_out_of_descriptors(error) {
        true => endpoint.health(),
        false => health,
    }
}

/// Whether the member leads; an error counts as no. `None`: this process had no free descriptor.
async fn leads(context: &Context, endpoint: &Endpoint) -> Option<bool> {
    let fetching = leader::fetch_is_leader(endpoint, context.config.dial_timeout);
    match time::timeout(ANSWER_TIMEOUT, fetching).await {
        Ok(Err(error)) if sockets::is_out_of_descriptors(&error) => None,
        fetched => Some(matches!(fetched, Ok(Ok(true)))),
    }
}

/// Reads from an answer at `/version` how the member states the progress of watches.
async fn progress(mut connection: Connection, mut head: Head) -> Option<WatchProgress> {
    let body = fetch::body(&mut connection, &mut head, VERSION_BYTES_MAX);
    let body = time::timeout(ANSWER_TIMEOUT, body).await.ok()?;
    WatchProgress::of_version(&body.ok()?)
}

async fn get(context: &Context, endpoint: &Endpoint, path: &str) -> io::Result<Head> {
    let (_, head) = send(context, endpoint, path).await?;
    Ok(head)
}

async fn send(
    context: &Context,
    endpoint: &Endpoint,
    path: &str,
) -> io::Result<(Connection, Head)> {
    // Not a pooled connection, which may be dead while the member is healthy.
    let mut connection = endpoint.new_connection(context.config.dial_timeout).await?;
    let head = fetch::send(&mut connection, &endpoint.address, path, Some(&context.id)).await?;
    Ok((connection, head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn a_probe_without_a_descriptor_changes_no_health() {
        let url = "http://127.0.0.1:1".to_owned();
        let endpoint = Endpoint::new(url.clone(), Address::of_url(&url).unwrap());
        for (error, health) in [
            (24, Health::Healthy),
            (23, Health::Healthy),
            (111, Health::Down),
        ] {
            let error = io::Error::from_raw_os_error(error);
            assert_eq!(after_error(&endpoint, &error, Health::Down), health);
        }
    }
}
