//! A new token from a discovery service, as `curl <service>/new?size=N` gets it.

use std::time::Duration;

use keelson_port::ClientTls;
use tracing::warn;
use url::Url;

use crate::backoff::{Backoff, RetryPolicy};
use crate::http::{Http, RequestParts, address_of};
use crate::v2::DiscoveryUrl;
use crate::{DiscoveryError, HttpError, Size};

/// Bound on the answer in bytes: a URL is short.
const ANSWER_MAX: usize = 4096;

/// Requests a token for `size` members from a discovery service; retries a few times.
///
/// `service_url` is the service's own, `http://host:8087`; `tls` is for https.
pub async fn new_token(
    service_url: &str,
    size: Size,
    tls: &ClientTls,
) -> Result<DiscoveryUrl, DiscoveryError> {
    let url = new_url(service_url, size)?;
    let mut backoff = Backoff::new(RetryPolicy {
        first: Duration::from_secs(1),
        cap: Duration::from_secs(4),
        attempts_max: 5,
    });
    loop {
        let error = match request_token(&url, tls).await {
            Ok(token) => return Ok(token),
            Err(DiscoveryError::Http(error)) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        let wait = backoff
            .next()
            .map_err(|attempts| DiscoveryError::TooManyRetries {
                url: url.as_str().to_owned(),
                attempts,
                last: error.to_string(),
            })?;
        warn!(%url, %error, backoff = ?wait, "retry connecting to discovery service");
        tokio::time::sleep(wait).await;
    }
}

fn new_url(service_url: &str, size: Size) -> Result<Url, DiscoveryError> {
    let invalid = |reason: String| DiscoveryError::InvalidService {
        url: service_url.to_owned(),
        reason,
    };
    let mut url = Url::parse(service_url).map_err(|error| invalid(error.to_string()))?;
    if url.host_str().is_none() {
        return Err(invalid("it has no host".to_owned()));
    }
    let base = url.path().trim_end_matches('/');
    let path = format!("{}/new", base.strip_suffix("/new").unwrap_or(base));
    url.set_path(&path);
    url.set_query(Some(&format!("size={size}")));
    Ok(url)
}

async fn request_token(url: &Url, tls: &ClientTls) -> Result<DiscoveryUrl, DiscoveryError> {
    let timeout = Duration::from_secs(5);
    let http = Http {
        proxy: None,
        connect_timeout: timeout,
        tls: tls.clone(),
    };
    let fetched = http
        .fetch(url, &RequestParts::default(), timeout, ANSWER_MAX)
        .await?;
    let text = String::from_utf8_lossy(&fetched.body);
    let text = text.trim();
    let parsed = DiscoveryUrl::parse(text);
    match parsed {
        Ok(token) if fetched.status.is_success() => {
            warn_of_elsewhere(url, &token);
            Ok(token)
        }
        _ if fetched.status.is_server_error() => Err(DiscoveryError::Http(HttpError::Broken {
            address: address_of(url),
            reason: fetched.status.to_string(),
        })),
        _ => Err(DiscoveryError::NoToken {
            url: url.as_str().to_owned(),
            status: fetched.status.as_u16(),
            answer: text.chars().take(200).collect(),
        }),
    }
}

/// Warns of a token at another host: Debian's etcd-discovery returns `http://example.com` URLs
/// until it is configured.
fn warn_of_elsewhere(asked: &Url, token: &DiscoveryUrl) {
    let told = token.host();
    if asked.host_str() != Some(told) {
        warn!(
            "the service's URLs begin with {told}, not with {}; if hosts cannot reach that, \
             correct the service's --host (prefix_url)",
            asked.host_str().unwrap_or_default()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_url_may_have_a_path() {
        let url = |text| {
            let size = "5".parse().expect("a size");
            new_url(text, size).map(String::from).ok()
        };
        assert_eq!(
            url("http://d:8087").as_deref(),
            Some("http://d:8087/new?size=5")
        );
        assert_eq!(
            url("http://d/base/").as_deref(),
            Some("http://d/base/new?size=5")
        );
        assert_eq!(url("http://d/new").as_deref(), Some("http://d/new?size=5"));
        assert_eq!(url("d:8087"), None);
    }
}
