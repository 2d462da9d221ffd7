//! Looks after an endpoint: whether it answers, says it is healthy, leads, and how far away it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{self, Instant};
use tracing::debug;

use crate::client::Head;
use crate::endpoint::{Endpoint, Standing};
use crate::fetch;
use crate::headers::LOOP;
use crate::leader;
use crate::proxy::Proxy;
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
pub(crate) async fn look_after(proxy: Arc<Proxy>, endpoint: Arc<Endpoint>) {
    while endpoint.standing() != Standing::Gone {
        if is_due(&proxy, &endpoint) {
            let standing = look_at(&proxy, &endpoint).await;
            proxy.endpoints.stands(&endpoint, standing);
            proxy.endpoints.tell(&endpoint);
            proxy.endpoints.reconsider();
            if endpoint.standing() == Standing::Well
                && let Some(leads) = leads(&proxy, &endpoint).await
            {
                proxy.endpoints.leads(&endpoint, leads);
            }
            endpoint.close_idle();
            if endpoint.standing() != Standing::Out {
                time::sleep(RESTRAINT).await;
            }
        }
        let pause = match endpoint.standing() {
            Standing::Out => URGENT,
            Standing::Well | Standing::Sick if proxy.endpoints.leader.is_sought() => SEARCH,
            _ => CALM,
        };
        let _ = time::timeout(pause, endpoint.stirred()).await;
    }
    endpoint.link.close();
}

/// A member that is out is left alone for a while, unless all are.
fn is_due(proxy: &Proxy, endpoint: &Endpoint) -> bool {
    match endpoint.standing() {
        Standing::Out => proxy.config.failure_wait <= endpoint.out_for() || !proxy.endpoints.any(),
        _ => true,
    }
}

async fn look_at(proxy: &Proxy, endpoint: &Endpoint) -> Standing {
    let began = Instant::now();
    match time::timeout(ANSWER_TIMEOUT, get(proxy, endpoint, "/version")).await {
        Ok(Ok(head)) if leads_back(proxy, &head) => return Standing::Loop,
        Ok(Ok(_)) => endpoint.answered_in(began.elapsed()),
        Ok(Err(error)) => {
            debug!(endpoint = %endpoint.url, %error, "a probe failed");
            return otherwise(endpoint, &error, Standing::Out);
        }
        Err(_) => return Standing::Out,
    }
    match time::timeout(HEALTH_TIMEOUT, get(proxy, endpoint, "/health")).await {
        Ok(Ok(head)) if head.status == StatusCode::OK => Standing::Well,
        // Members that have no such path, or want a password for it.
        Ok(Ok(head)) if head.status.is_client_error() => Standing::Well,
        Ok(Err(error)) => otherwise(endpoint, &error, Standing::Sick),
        _ => Standing::Sick,
    }
}

/// How a member stands after a probe that failed: as before, where it was this process that had no
/// descriptor.
fn otherwise(endpoint: &Endpoint, error: &io::Error, standing: Standing) -> Standing {
    match sockets::is_out_of_descriptors(error) {
        true => endpoint.standing(),
        false => standing,
    }
}

/// Whatever cannot be learnt is no; `None`: there was no descriptor to learn it with.
async fn leads(proxy: &Proxy, endpoint: &Endpoint) -> Option<bool> {
    let asking = leader::ask(endpoint, proxy.config.dial_timeout);
    match time::timeout(ANSWER_TIMEOUT, asking).await {
        Ok(Err(error)) if sockets::is_out_of_descriptors(&error) => None,
        asked => Some(matches!(asked, Ok(Ok(true)))),
    }
}

/// Whether the answer is this proxy's own, or another's that knows its mark.
fn leads_back(proxy: &Proxy, head: &Head) -> bool {
    head.status == StatusCode::LOOP_DETECTED
        && head.headers().get(LOOP).is_some_and(|id| *id == proxy.id)
}

async fn get(proxy: &Proxy, endpoint: &Endpoint, path: &str) -> io::Result<Head> {
    // Never a connection that may be stale: this decides.
    let mut connection = endpoint.new_connection(proxy.config.dial_timeout).await?;
    let head = fetch::send(&mut connection, &endpoint.address, path, Some(&proxy.id)).await?;
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
        for (error, standing) in [
            (24, Standing::Well),
            (23, Standing::Well),
            (111, Standing::Out),
        ] {
            let error = io::Error::from_raw_os_error(error);
            assert_eq!(otherwise(&endpoint, &error, Standing::Out), standing);
        }
    }
}
