//! Bounds on what is stored below tokens, with a registry in memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use keelson_discovery::service::{self, RateLimit, Registry, ServiceOptions};

use crate::client::ask;
use crate::service::{Service, has_metric};

/// A registry in memory: tokens and their entries.
#[derive(Default)]
struct MemoryRegistry(parking_lot::Mutex<std::collections::BTreeMap<String, String>>);

impl Registry for MemoryRegistry {
    async fn call(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<service::Body>, service::RegistryError> {
        let path = request.uri().path().to_owned();
        let is_write = *request.method() == http::Method::PUT;
        if is_write {
            // Leaves time for concurrent requests.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut values = self.0.lock();
        let (status, text) = match *request.method() {
            _ if is_write => {
                let form = String::from_utf8_lossy(request.body());
                let value = form.trim_start_matches("value=").to_owned();
                values.insert(path, value);
                (201, "{}".to_owned())
            }
            http::Method::DELETE => {
                values.remove(&path);
                (200, "{}".to_owned())
            }
            _ => {
                let below = format!("{path}/");
                let hidden = format!("{below}_");
                let nodes = values
                    .iter()
                    .filter(|(key, _)| key.starts_with(&below) && !key.starts_with(&hidden));
                let nodes: Vec<_> = nodes
                    .map(|(key, value)| {
                        serde_json::json!({"key": key, "value": value, "modifiedIndex": 1,
                            "createdIndex": 1})
                    })
                    .collect();
                let answer = serde_json::json!({"action": "get", "node": {"key": path,
                    "dir": true, "nodes": nodes, "modifiedIndex": 1, "createdIndex": 1}});
                (200, answer.to_string())
            }
        };
        let body = Full::new(bytes::Bytes::from(text)).map_err(|never| match never {});
        let response = http::Response::builder().status(status);
        Ok(response.body(body.boxed_unsync()).expect("sound"))
    }
}

pub(crate) async fn with_memory_registry(options: ServiceOptions) -> Result<Service> {
    Service::of(MemoryRegistry::default(), options).await
}

/// One address could store 30 MB in a second, and 18 large entries made a token unusable.
#[tokio::test]
async fn what_an_address_and_a_token_may_store_is_bounded() -> Result<()> {
    let burst = 200;
    let service = with_memory_registry(ServiceOptions {
        writes: RateLimit {
            burst,
            every: Duration::from_secs(3600),
        },
        ..ServiceOptions::default()
    })
    .await?;
    let token = service.token("3").await?;
    let put = async |id: &str, size: usize| {
        let form = format!("value={}", "x".repeat(size));
        ask("PUT", &format!("{token}/{id}"), &form).await
    };
    ensure!(put("a", 4000).await?.status == 201);
    ensure!(put("a", 5000).await?.status == 413);
    let in_query = format!("{token}/a?value={}", "x".repeat(5000));
    ensure!(ask("PUT", &in_query, "").await?.status == 414);
    let mut full = 0;
    for entry in 1..burst - 1 {
        let answer = put(&format!("e{entry}"), 4000).await?;
        ensure!([201, 403].contains(&answer.status), "{answer:?}");
        full += u32::from(answer.status == 403);
    }
    ensure!(full != 0, "the token has no bound");
    // It can still be read and inspected.
    ensure!(ask("GET", &token, "").await?.body.len() < 1 << 20);
    let small = ask("PUT", &format!("{token}/b"), "value=x").await?;
    ensure!([201, 403].contains(&small.status), "{small:?}");
    let late = put("late", 1).await?;
    ensure!(
        late.status == 429 && late.header("Retry-After").is_some(),
        "{late:?}"
    );
    service.end().await
}

/// Each request read the directory before any of the others had written.
#[tokio::test]
async fn writes_at_the_same_time_do_not_exceed_a_tokens_limit() -> Result<()> {
    let service = with_memory_registry(ServiceOptions {
        entries_max: 2,
        ..ServiceOptions::default()
    })
    .await?;
    let token = service.token("3").await?;
    let mut puts = tokio::task::JoinSet::new();
    for entry in 0..10 {
        let url = format!("{token}/e{entry}");
        puts.spawn(async move { ask("PUT", &url, "value=1").await });
    }
    let mut made = 0;
    while let Some(answer) = puts.join_next().await {
        let answer = answer??;
        ensure!([201, 403].contains(&answer.status), "{answer:?}");
        made += usize::from(answer.status == 201);
    }
    let stored = ask("GET", &token, "").await?.body;
    // A token is hexadecimal, and may begin with an e.
    let (_, id) = token.rsplit_once('/').context("a URL")?;
    let kept = stored.matches(&format!("/{id}/e")).count();
    ensure!(made == 2 && kept == 2, "{stored}");
    service.end().await
}

/// Deletions cost a registry as much as other writes, and were not counted.
#[tokio::test]
async fn deletions_of_an_address_are_bounded_as_its_writes_are() -> Result<()> {
    let service = with_memory_registry(ServiceOptions {
        writes: RateLimit {
            burst: 3,
            every: Duration::from_secs(3600),
        },
        ..ServiceOptions::default()
    })
    .await?;
    let entry = format!("{}/a", service.token("3").await?);
    for (method, status) in [("PUT", 201), ("DELETE", 200), ("DELETE", 200)] {
        let answer = ask(method, &entry, "value=1").await?;
        ensure!(answer.status == status, "{answer:?}");
    }
    let late = ask("DELETE", &entry, "").await?;
    ensure!(late.status == 429, "{late:?}");
    ensure!(late.header("Retry-After").is_some(), "{late:?}");
    service.end().await
}

/// Many addresses with a token each could fill the registry.
#[tokio::test]
async fn what_all_addresses_store_together_is_bounded() -> Result<()> {
    let service = with_memory_registry(ServiceOptions {
        stored_max: 20_000,
        ..ServiceOptions::default()
    })
    .await?;
    let mut stored = 0;
    let full = loop {
        let answer = ask("GET", &format!("{}/new?size=3", service.url), "").await?;
        if answer.status != 200 {
            break answer;
        }
        let put = ask("PUT", &format!("{}/a", answer.body), "value=1").await?;
        if put.status != 201 {
            break put;
        }
        stored += 1;
        ensure!(stored < 20, "there is no bound");
    };
    ensure!(full.status == 503, "{full:?}");
    ensure!(full.header("Retry-After").is_some(), "{full:?}");
    ensure!(
        has_metric(
            &service,
            "keelson_discovery_refused_total{limit=\"total\"} 1"
        )
        .await?
    );
    service.end().await
}
