//! The rarer ways to start: a token in a v3 cluster, a read-only proxy, a gateway, and the
//! discovery service's own store compared with an etcd.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_tests::bring_up::{Host, LIMIT, Notified, Role, Service};
use keelson_tests::http::{Client, Reply, Request};
use keelson_tests::proc::cluster::{Cluster, Plan};
use keelson_tests::proc::process::Process;
use keelson_tests::proc::{binary, ports};

/// Four hosts with one token in the v3 API of another cluster.
async fn founded_in(registry: &Path) -> Result<()> {
    let registry = Cluster::start(&Plan::new(registry, 1)).await?;
    let endpoint = registry.endpoints()[0].clone();
    // {"key": "/_etcd/registry/t/_config/size", "value": "3"}
    let size = r#"{"key":"L19ldGNkL3JlZ2lzdHJ5L3QvX2NvbmZpZy9zaXpl","value":"Mw=="}"#;
    let put = Request::new("POST", "/v3/kv/put").body(size);
    let reply = Client::new(&endpoint).ask(&put).await?;
    ensure!(reply.status == 200, "{reply}");
    let dir = tempfile::tempdir()?;
    let mut hosts = Vec::new();
    for number in 1..=4 {
        let host = Host::new(&binary::ours()?, dir.path(), &format!("h{number}"))?;
        let mut host = host
            .with("ETCD_DISCOVERY_TOKEN", "t")
            .with("ETCD_DISCOVERY_ENDPOINTS", &endpoint);
        host.start()?;
        hosts.push(host);
    }
    for host in &mut hosts {
        host.serves().await?;
    }
    let count = |role| hosts.iter().filter(|host| host.role() == role).count();
    ensure!((count(Role::Member), count(Role::Proxy)) == (3, 1));
    Ok(())
}

#[tokio::test]
async fn a_token_in_an_etcds_v3_api_founds_a_cluster() -> Result<()> {
    match binary::etcd_or_skip()? {
        Some(etcd) => founded_in(&etcd).await,
        None => Ok(()),
    }
}

/// It has no watches yet.
#[tokio::test]
async fn a_token_in_our_own_v3_api_founds_a_cluster() -> Result<()> {
    founded_in(&binary::ours()?).await
}

#[tokio::test]
async fn a_proxy_that_only_reads_does_so() -> Result<()> {
    let ours = binary::ours()?;
    let cluster = Cluster::start(&Plan::new(&ours, 1).flag("--enable-v2=true")).await?;
    let mut member = Client::new(&cluster.endpoints()[0]);
    let put = Request::put("/v2/keys/a", "value=1");
    ensure!(member.ask(&put).await?.status == 201);
    let mut proxy = Host::proxy(&ours, &cluster, "proxy")?.with("ETCD_PROXY", "readonly");
    proxy.start()?;
    proxy.serves().await?;
    let mut client = Client::new(&proxy.client_url);
    let before = client.ask(&Request::get("/v2/keys/a")).await?;
    ensure!(before.text().contains(r#""value":"1""#), "{before}");
    let changes = [
        put,
        Request::new("DELETE", "/v2/keys/a"),
        Request::new("POST", "/v3/kv/put").body(r#"{"key":"YQ=="}"#),
    ];
    for change in changes {
        let refused = client.ask(&change).await?;
        ensure!(refused.status == 501, "{change}: {refused}");
    }
    let after = member.ask(&Request::get("/v2/keys/a")).await?;
    ensure!(after.text() == before.text(), "{after}");
    Ok(())
}

/// As systemd starts it, and as scripts for etcd do: endpoints with and without schemes.
#[tokio::test]
async fn a_gateway_says_when_it_is_ready_and_joins() -> Result<()> {
    let ours = binary::ours()?;
    let cluster = Cluster::start(&Plan::new(&ours, 3).flag("--enable-v2=true")).await?;
    let notified = Notified::listen(cluster.dir(), "gateway")?;
    let address = format!("127.0.0.1:{}", ports::free(1)?[0]);
    let urls = cluster.endpoints();
    let bare = urls[2].trim_start_matches("http://");
    let arguments = [
        "gateway".to_owned(),
        "start".to_owned(),
        format!("--listen-addr={address}"),
        format!("--endpoints={},{},{bare}", urls[0], urls[1]),
    ];
    let variables = [("NOTIFY_SOCKET".to_owned(), notified.path())];
    let log = cluster.dir().join("gateway.log");
    let _gateway = Process::start_with(&ours, &arguments, &variables, &log)?;
    let heard = notified.hears(LIMIT).await?;
    ensure!(heard.as_deref() == Some("READY=1"), "{heard:?}");
    // Each connection may go to another member.
    for number in 0..6 {
        let mut client = Client::new(&format!("http://{address}"));
        let put = Request::put("/v2/keys/a", format!("value={number}"));
        let reply = client.ask(&put).await?;
        ensure!(matches!(reply.status, 200 | 201), "{reply}");
    }
    Ok(())
}

/// A client's view of a token, from before it is made until it is full.
async fn seen(service: &Service, token: &str) -> Result<Vec<String>> {
    let path = token.strip_prefix(&service.url).context("its own token")?;
    let mut client = Client::patient(&service.url, Duration::from_secs(5));
    let form = |id: &str, query: &str, value: &str| {
        Request::put(format!("{path}/{id}{query}"), format!("value={value}"))
    };
    let requests = [
        Request::get(format!("/{}", "0".repeat(32))),
        Request::put(format!("/{}/1", "0".repeat(32)), "value=m=http://a:1"),
        Request::get("/new?size=nonsense"),
        Request::get(format!("{path}/_config/size")),
        Request::get(path),
        form("1", "?prevExist=false", "m1=http://a:1"),
        form("1", "?prevExist=false", "m1=http://a:1"),
        form("2", "?prevExist=false", "m2=http://b:1"),
        form("2", "?prevIndex=1", "other"),
        Request::get(format!("{path}?sorted=true")),
        Request::get(format!("{path}/1")),
        Request::get(format!("{path}/none")),
        Request::new("DELETE", format!("{path}/2")),
        Request::get(format!("{path}?wait=true&recursive=true&waitIndex=1")),
        Request::new("POST", path),
        Request::get("/health"),
        Request::get("/nowhere/else"),
    ];
    let mut seen = Vec::new();
    for request in requests {
        let reply = client.ask(&request).await?;
        seen.push(masked(&request, &reply, path));
    }
    // A client that waits has the head at once, and then the event.
    let waits = Request::get(format!("{path}/3?wait=true"));
    let mut open = client.open(&waits).await?;
    seen.push(format!("{} before the event", open.head.status));
    ensure!(open.head.body.is_empty());
    let put = form("3", "?prevExist=false", "m3=http://c:1");
    let reply = Client::new(&service.url).ask(&put).await?;
    seen.push(masked(&put, &reply, path));
    while open.more().await? && !open.head.body.ends_with(b"\n") {}
    seen.push(masked(&waits, &open.head, path));
    Ok(seen)
}

/// The reply without its variable parts: indices, times, the token, and its place in the registry.
fn masked(request: &Request, reply: &Reply, path: &str) -> String {
    let mut text = reply.text().replace(path, "/TOKEN");
    for name in ["Index\":", "index\":", "ttl\":", "expiration\":", "[1 != "] {
        let mut parts = text.split(name).map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        text = parts.fold(first, |before, part| {
            let end = part.find([',', '}', ']']).unwrap_or(part.len());
            format!("{before}{name}N{}", &part[end..])
        });
    }
    let kind = reply.header("content-type").unwrap_or_default();
    let request = request.to_string().replace(path, "/TOKEN");
    format!("{request} -> {} {kind} {text}", reply.status)
}

/// The tests of `discovery` compare the service with Debian's, with an etcd as its store; with its
/// own store it is the same.
#[tokio::test]
async fn the_services_own_store_answers_as_an_etcd_does() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = binary::ours()?;
    let registry = Cluster::start(&Plan::new(&etcd, 1).flag("--enable-v2=true")).await?;
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let own = Service::ours(&ours, one.path()).await?;
    let before = Service::ours_before(&ours, two.path(), &registry.endpoints()[0]).await?;
    let own_seen = seen(&own, &own.token(&ours, 3)?).await?;
    let before_seen = seen(&before, &before.token(&ours, 3)?).await?;
    for (own, before) in own_seen.iter().zip(&before_seen) {
        ensure!(own == before, "by itself: {own}\nbefore an etcd: {before}");
    }
    ensure!(own_seen.iter().any(|line| line.contains("m3=http://c:1")));
    Ok(())
}
