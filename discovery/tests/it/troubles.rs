//! Each fault of a token or a service, and its error text.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use keelson_discovery::{DiscoveryError, HttpError, Outcome, RetryPolicy, join};

use crate::client;
use crate::etcd::{Etcd, SOON};
use crate::faults::{Fate, Faults};
use crate::hosts::{boot, check, host, options, refusal};

#[tokio::test]
async fn an_entry_that_says_something_else_is_a_duplicate() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let url = etcd.token("3").await?;
    let me = host(1, &url);
    let form = "value=other=http://10.0.0.1:2380";
    client::ask("PUT", &format!("{url}/{}", me.hex_id()), form).await?;
    let error = refusal(&url, &me, &options()).await;
    ensure!(
        matches!(error, DiscoveryError::DuplicateId { .. }),
        "{error}"
    );
    let text = error.to_string();
    ensure!(text.starts_with("discovery: found duplicate id"), "{text}");
    ensure!(text.contains("\"other=http://10.0.0.1:2380\""), "{text}");
    Ok(())
}

#[tokio::test]
async fn two_hosts_with_one_name_or_rubbish_are_found_out() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    for (value, expected) in [
        (
            "host1=http://10.0.0.9:2380",
            "discovery: found duplicate name",
        ),
        (
            "host9=http://10.0.0.1:2380",
            "discovery: found duplicate URL",
        ),
        ("rubbish", "discovery: invalid URL: the entry beef"),
    ] {
        let url = etcd.token("2").await?;
        client::ask("PUT", &format!("{url}/beef"), &format!("value={value}")).await?;
        let text = refusal(&url, &host(1, &url), &options()).await.to_string();
        ensure!(text.starts_with(expected), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_size_and_a_missing_token_say_so() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    for size in ["abc", "0", "-1", "1000", ""] {
        let url = etcd.token(size).await?;
        let error = refusal(&url, &host(1, &url), &options()).await;
        ensure!(
            matches!(error, DiscoveryError::BadSizeKey { .. }),
            "{error}"
        );
        ensure!(
            error.to_string().starts_with("discovery: size key is bad"),
            "{error}"
        );
    }
    let url = format!("{}/v2/keys/_etcd/registry/none", etcd.url());
    let text = refusal(&url, &host(1, &url), &options()).await.to_string();
    ensure!(text.starts_with("discovery: size key not found"), "{text}");
    ensure!(text.contains("keelson discovery new"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_token_that_expires_while_we_wait_is_found_out() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let url = format!("{}/v2/keys/_etcd/registry/brief", etcd.url());
    client::ask("PUT", &url, "dir=true&ttl=2").await?;
    client::ask("PUT", &format!("{url}/_config/size"), "value=3").await?;
    let error = refusal(&url, &host(1, &url), &options()).await;
    ensure!(
        matches!(error, DiscoveryError::SizeNotFound { .. }),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_deleted_entry_is_registered_again() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let url = etcd.token("2").await?;
    let me = host(1, &url);
    let joining = tokio::spawn({
        let (url, me) = (url.clone(), me.clone());
        async move { join(&url, &me, &options(), None).await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    client::ask("DELETE", &format!("{url}/{}", me.hex_id()), "").await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut outcomes = boot(&url, [(2, Duration::ZERO)]).await?;
    outcomes.push((1, tokio::time::timeout(SOON, joining).await???));
    check(&outcomes, 2)?;
    Ok(())
}

#[tokio::test]
async fn a_wait_outlives_the_history() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let url = etcd.token("2").await?;
    let mut brief = options();
    brief.wait_max = Duration::from_millis(1_500);
    let joining = tokio::spawn({
        let (url, me) = (url.clone(), host(1, &url));
        async move { join(&url, &me, &brief, None).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The history of the whole store holds 1000 events.
    let other = format!("{}/v2/keys/other", etcd.url());
    for _ in 0..1_050 {
        client::ask("PUT", &other, "value=1").await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut outcomes = boot(&url, [(2, Duration::ZERO)]).await?;
    outcomes.push((1, tokio::time::timeout(SOON, joining).await???));
    check(&outcomes, 2)?;
    Ok(())
}

/// A service that gives the same answer to every request.
async fn odd_service(answer: &str) -> Result<(Faults, String)> {
    let answer = answer.to_owned();
    let faults = Faults::before(1, move |_| Fate::Answer(answer.clone())).await?;
    let url = format!("http://127.0.0.1:{}/token", faults.port);
    Ok((faults, url))
}

#[tokio::test]
async fn what_is_no_discovery_service_is_told_by_its_answer() -> Result<()> {
    let page = "<html>sign in</html>";
    let ok = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    );
    let not_found = "HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n";
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat((1 << 20) + 1));
    for answer in [ok.as_str(), not_found, &endless] {
        let (_service, url) = odd_service(answer).await?;
        let error = refusal(&url, &host(1, &url), &options()).await;
        ensure!(
            matches!(error, DiscoveryError::BadDiscoveryEndpoint { .. }),
            "{error}"
        );
        let text = error.to_string();
        ensure!(
            text.starts_with("discovery: bad discovery endpoint"),
            "{text}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn patience_has_an_end_when_it_is_given_one() -> Result<()> {
    let mut brief = options();
    brief.retry = RetryPolicy {
        first: Duration::from_millis(1),
        cap: Duration::from_millis(4),
        attempts_max: 4,
    };
    brief.request_timeout = Duration::from_millis(200);
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    for answer in [
        busy,
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "nonsense",
    ] {
        let (_service, url) = odd_service(answer).await?;
        let error = refusal(&url, &host(1, &url), &brief).await;
        let DiscoveryError::TooManyRetries { attempts: 4, .. } = error else {
            anyhow::bail!("{answer:?}: {error}");
        };
    }
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/token", silent.local_addr()?);
    let text = refusal(&url, &host(1, &url), &brief).await.to_string();
    ensure!(
        text.starts_with("discovery: too many retries: 4 in a row"),
        "{text}"
    );
    ensure!(text.contains("no answer from 127.0.0.1"), "{text}");
    Ok(())
}

#[tokio::test]
async fn redirects_are_followed_with_an_end() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let target = etcd.url();
    let redirect = move |line: &str| {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        Fate::Answer(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}{path}\r\nContent-Length: 0\r\n\
             \r\n"
        ))
    };
    let service = Faults::before(1, redirect).await?;
    let direct = etcd.token("1").await?;
    let url = service.through(&direct, etcd.port());
    let outcome = join(&url, &host(1, &url), &options(), None).await?;
    ensure!(matches!(outcome, Outcome::Member { .. }), "{outcome:?}");

    let circle = "HTTP/1.1 302 Found\r\nLocation: /token/x\r\nContent-Length: 0\r\n\r\n";
    let (_service, url) = odd_service(circle).await?;
    let error = refusal(&url, &host(1, &url), &options()).await;
    let circle = matches!(error, DiscoveryError::Http(HttpError::TooManyRedirects(_)));
    ensure!(circle, "{error}");

    let secure = "HTTP/1.1 301 Moved\r\nLocation: https://d/t\r\nContent-Length: 0\r\n\r\n";
    let (_service, url) = odd_service(secure).await?;
    let mut hasty = options();
    hasty.retry.attempts_max = 1;
    let error = refusal(&url, &host(1, &url), &hasty).await;
    // The redirect was followed: the error names the other host.
    ensure!(error.to_string().contains("d:443"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_http_proxy_on_the_way_is_used() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let port = etcd.port();
    // Only a proxy receives targets in absolute form.
    let whole = move |line: &str| match line.contains(" http://nowhere.invalid/v2/keys") {
        true => Fate::Pass,
        false => Fate::Answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned()),
    };
    let proxy = Faults::before(port, whole).await?;
    let direct = etcd.token("1").await?;
    let url = direct.replace(&format!("127.0.0.1:{port}"), "nowhere.invalid");
    let mut through = options();
    through.proxy = Some(format!("127.0.0.1:{}", proxy.port));
    let outcome = join(&url, &host(1, &url), &through, None).await?;
    ensure!(matches!(outcome, Outcome::Member { .. }), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn a_service_that_does_not_wait_makes_nobody_spin() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let hasty = move |line: &str| {
        count.fetch_add(1, Ordering::Relaxed);
        let body = r#"{"action":"get","node":{"key":"/t","dir":true}}"#;
        let length = body.len();
        match line.contains("recursive=true&wait=true") {
            true => Fate::Answer(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
            )),
            false => Fate::Pass,
        }
    };
    let faults = Faults::before(etcd.port(), hasty).await?;
    let url = faults.through(&etcd.token("2").await?, etcd.port());
    let me = host(1, &url);
    let options = options();
    let joining = tokio::time::timeout(Duration::from_secs(1), join(&url, &me, &options, None));
    ensure!(joining.await.is_err(), "the cluster cannot be complete");
    let asked = asked.load(Ordering::Relaxed);
    ensure!(asked < 60, "{asked} requests in a second");
    // And the cluster comes up all the same.
    let mut outcomes = boot(&url, [(1, Duration::ZERO), (2, Duration::ZERO)]).await?;
    outcomes.sort_by_key(|(number, _)| *number);
    check(&outcomes, 2)?;
    ensure!(outcomes[0].1.full().is_none());
    let late = boot(&url, [(3, Duration::ZERO)]).await?;
    let error = late[0].1.full().map(|error| error.to_string());
    ensure!(
        error.is_some_and(|text| text.starts_with("discovery: cluster is full")),
        "{late:?}"
    );
    Ok(())
}
