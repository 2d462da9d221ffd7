//! Looks after an endpoint: whether it answers, says it is healthy, leads, and how far away it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{self, Instant};
use tracing::debug;

use crate::context::Context;
use crate::http1::client::Head;
use crate::http1::fetch;
use crate::policy::endpoint::{Endpoint, Health};
use crate::policy::leader;
use crate::sockets;

/// Between two looks at a member that does well.
const CALM: Duration = Duration::from_secs(10);

/// Between two looks at one that is out, while no other can be asked.
const URGENT: Duration = Duration::from_millis(100);

/// Between two looks at one that may be the next leader.
const SEARCH: Duration = Duration::from_millis(500);

/// Between two looks at one that answers, however many requests wonder: it may be slow because it
/// is asked too much.
const RESTRAINT: Duration = Duration::from_millis(200);

/// For `/version` and for who leads, which cost a member nothing. Short, because reads wait for this verdict before
/// they move on, and some clients have a second for everything.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(600);

/// For `/health`, which asks the whole cluster.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Until the endpoint is no longer a member's.
pub(crate) async fn run(context: Arc<Context>, endpoint: Arc<Endpoint>) {
    while endpoint.health() != Health::Removed {
        if is_due(&context, &endpoint) {
            let health = probe(&context, &endpoint).await;
            context.endpoints.set_health(&endpoint, health);
            context.endpoints.tell(&endpoint);
            context.endpoints.reconsider();
            if endpoint.health() == Health::Healthy
                && let Some(leads) = leads(&context, &endpoint).await
            {
                context.endpoints.leads(&endpoint, leads);
            }
            endpoint.close_idle();
            if endpoint.health() != Health::Down {
                time::sleep(RESTRAINT).await;
            }
        }
        let pause = match endpoint.health() {
            Health::Down => URGENT,
            Health::Healthy | Health::Degraded if context.endpoints.leader.is_sought() => SEARCH,
            _ => CALM,
        };
        let _ = time::timeout(pause, endpoint.woken()).await;
    }
    endpoint.link.close();
}

/// A member that is out is left alone for a while, unless all are.
fn is_due(context: &Context, endpoint: &Endpoint) -> bool {
    match endpoint.health() {
        Health::Down => {
            context.config.failure_wait <= endpoint.out_for() || !context.endpoints.any()
        }
        _ => true,
    }
}

async fn probe(context: &Context, endpoint: &Endpoint) -> Health {
    let began = Instant::now();
    match time::timeout(ANSWER_TIMEOUT, get(context, endpoint, "/version")).await {
        Ok(Ok(head)) if context.leads_back(&head) => return Health::SelfLoop,
        Ok(Ok(_)) => endpoint.answered_in(began.elapsed()),
        Ok(Err(error)) => {
            debug!(endpoint = %endpoint.url, %error, "a probe failed");
            return otherwise(endpoint, &error, Health::Down);
        }
        Err(_) => return Health::Down,
    }
    match time::timeout(HEALTH_TIMEOUT, get(context, endpoint, "/health")).await {
        Ok(Ok(head)) if head.status == StatusCode::OK => Health::Healthy,
        // Members that have no such path, or want a password for it.
        Ok(Ok(head)) if head.status.is_client_error() => Health::Healthy,
        Ok(Err(error)) => otherwise(endpoint, &error, Health::Degraded),
        _ => Health::Degraded,
    }
}

/// How a member stands after a probe that failed: as before, where it was this process that had no
/// descriptor.
fn otherwise(endpoint: &Endpoint, error: &io::Error, health: Health) -> Health {
    match sockets::is_out_of_descriptors(error) {
        true => endpoint.health(),
        false => health,
    }
}

/// Whatever cannot be learnt is no; `None`: there was no descriptor to learn it with.
async fn leads(context: &Context, endpoint: &Endpoint) -> Option<bool> {
    let asking = leader::ask(endpoint, context.config.dial_timeout);
    match time::timeout(ANSWER_TIMEOUT, asking).await {
        Ok(Err(error)) if sockets::is_out_of_descriptors(&error) => None,
        asked => Some(matches!(asked, Ok(Ok(true)))),
    }
}

async fn get(context: &Context, endpoint: &Endpoint, path: &str) -> io::Result<Head> {
    // Never a connection that may be stale: this decides.
    let mut connection = endpoint.new_connection(context.config.dial_timeout).await?;
    let head = fetch::send(&mut connection, &endpoint.address, path, Some(&context.id)).await?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn a_probe_without_a_descriptor_says_nothing_of_the_member() {
        let url = "http://127.0.0.1:1".to_owned();
        let endpoint = Endpoint::new(url.clone(), Address::of_url(&url).unwrap());
        for (error, health) in [
            (24, Health::Healthy),
            (23, Health::Healthy),
            (111, Health::Down),
        ] {
            let error = io::Error::from_raw_os_error(error);
            assert_eq!(otherwise(&endpoint, &error, Health::Down), health);
        }
    }
}
