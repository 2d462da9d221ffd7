//! Our service in front of a real etcd.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_discovery::service::{HttpRegistry, RateLimit, Registry, ServiceOptions, serve};
use keelson_discovery::{Outcome, cluster_of, join, new_token};
use keelson_port::ClientTls;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bounds::with_memory_registry;
use crate::client::{self, ask};
use crate::etcd::{Etcd, Process, SOON, free_port, program, registered};
use crate::hosts::{boot, check, host, options};

/// A service in this process.
pub(crate) struct Service {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Service {
    pub(crate) async fn before(registry: &str, options: ServiceOptions) -> Result<Service> {
        let registry = HttpRegistry::new(registry, Duration::from_secs(1))?;
        Service::of(registry, options).await
    }

    pub(crate) async fn of(registry: impl Registry, options: ServiceOptions) -> Result<Service> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let registry = Arc::new(registry);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, registry, options, async move {
            let _ = stopped.await;
        }));
        let stop = Some(stop);
        Ok(Service { url, stop, serving })
    }

    pub(crate) async fn token(&self, size: &str) -> Result<String> {
        let answer = ask("GET", &format!("{}/new?size={size}", self.url), "").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.body)
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        self.stop.take();
        tokio::time::timeout(SOON, &mut self.serving).await???;
        Ok(())
    }
}

#[tokio::test]
async fn our_hosts_come_up_through_our_service() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let service = Service::before(&etcd.url(), ServiceOptions::default()).await?;
    let url = new_token(&service.url, "5".parse()?, &ClientTls::default())
        .await?
        .to_string();
    ensure!(
        url.starts_with(&service.url) && !url.ends_with('\n'),
        "{url}"
    );
    let watching = tokio::spawn({
        let url = url.clone();
        async move { cluster_of(&url, &options()).await }
    });
    let outcomes = boot(&url, (1..=8).map(|number| (number, Duration::ZERO))).await?;
    check(&outcomes, 5)?;
    ensure!(registered(&url).await?.len() == 5);
    tokio::time::timeout(SOON, watching).await???;
    service.end().await
}

#[tokio::test]
async fn three_real_etcds_come_up_through_our_service() -> Result<()> {
    let (Some(registry), Some(binary)) = (Etcd::start().await?, program("etcd")?) else {
        return Ok(());
    };
    let service = Service::before(&registry.url(), ServiceOptions::default()).await?;
    let url = service.token("3").await?;
    let mut members = Vec::new();
    for number in 1..=3 {
        let dir = tempfile::tempdir()?;
        let client = format!("http://127.0.0.1:{}", free_port()?);
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let mut command = Command::new(&binary);
        command
            .args(["--enable-v2=true", "--unsafe-no-fsync", "--discovery"])
            .arg(&url)
            .arg(format!("--name=real{number}"))
            .arg(format!("--data-dir={}", dir.path().display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"));
        members.push((Process::start(&mut command)?, dir, client, peer));
    }
    for (_, _, client, _) in &members {
        client::until_ok(&format!("{client}/health")).await?;
        let listed = ask("GET", &format!("{client}/v2/members"), "").await?.body;
        for (_, _, _, peer) in &members {
            ensure!(listed.contains(peer), "{peer} is not in {listed}");
        }
    }
    // One of our hosts comes late, and gets the list of members.
    let late = join(&url, &host(9, &url), &options(), None).await?;
    ensure!(matches!(late, Outcome::Full { .. }), "{late:?}");
    Ok(())
}

#[tokio::test]
async fn a_wait_has_its_headers_at_once_and_ends_with_its_client() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let service = Service::before(&etcd.url(), ServiceOptions::default()).await?;
    let token = service.token("3").await?;
    let wait = format!("{token}?recursive=true&wait=true");
    let mut lines = BufReader::new(client::send("GET", &wait, "").await?).lines();
    let head = tokio::time::timeout(Duration::from_secs(5), async {
        let mut head = Vec::new();
        while let Some(line) = lines.next_line().await? {
            if line.is_empty() {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        anyhow::Ok(head)
    });
    let head = head.await.context("the headers wait for the event")??;
    ensure!(head[0] == "http/1.1 200 ok", "{head:?}");
    ensure!(
        head.iter().any(|line| line.starts_with("x-etcd-index: ")),
        "{head:?}"
    );
    ensure!(watchers(&etcd).await? == 1);
    ensure!(has_metric(&service, "keelson_discovery_waits_open 1").await?);
    drop(lines);
    for _ in 0..100 {
        if watchers(&etcd).await? == 0 {
            ensure!(has_metric(&service, "keelson_discovery_waits_open 0").await?);
            // And a service that stops does not wait for open waits.
            let _waiting = client::send("GET", &wait, "").await?;
            return service.end().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the wait did not end with its client")
}

/// Whether `/metrics` has this line.
pub(crate) async fn has_metric(service: &Service, line: &str) -> Result<bool> {
    let answer = ask("GET", &format!("{}/metrics", service.url), "").await?;
    Ok(answer.body.lines().any(|found| found == line))
}

async fn watchers(etcd: &Etcd) -> Result<u64> {
    let stats = ask("GET", &format!("{}/v2/stats/store", etcd.url()), "").await?;
    let stats: serde_json::Value = serde_json::from_str(&stats.body)?;
    stats["watchers"].as_u64().context("no watchers")
}

#[tokio::test]
async fn what_the_original_lacks() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let options = ServiceOptions {
        token_ttl: Some(Duration::from_secs(2)),
        new: RateLimit {
            burst: 2,
            every: Duration::from_secs(60),
        },
        entries_max: 2,
        ..ServiceOptions::default()
    };
    let service = Service::before(&etcd.url(), options).await?;
    for (size, why) in [
        ("0", "at least one"),
        ("-1", "at least one"),
        ("100", "too many"),
    ] {
        let answer = ask("GET", &format!("{}/new?size={size}", service.url), "").await?;
        ensure!(
            answer.status == 400 && answer.body.contains(why),
            "{answer:?}"
        );
        ensure!(
            answer.body.starts_with("Unable to generate token: "),
            "{answer:?}"
        );
    }
    let token = service.token("3").await?;
    service.token("3").await?;
    let answer = ask("GET", &format!("{}/new?size=3", service.url), "").await?;
    ensure!(
        answer.status == 429 && answer.header("Retry-After").is_some(),
        "{answer:?}"
    );

    let put =
        async |id: &str| ask("PUT", &format!("{token}/{id}?prevExist=false"), "value=1").await;
    ensure!(put("a").await?.status == 201);
    ensure!(put("a").await?.status == 412);
    ensure!(put("b").await?.status == 201);
    let crowded = put("c").await?;
    ensure!(crowded.status == 403, "{crowded:?}");
    let endless = ask("PUT", &format!("{token}?dir=true&prevExist=true"), "").await?;
    ensure!(endless.status == 403, "{endless:?}");

    let nobody = format!("{}/{}/a", service.url, "0".repeat(32));
    let answer = ask("PUT", &nobody, "value=1").await?;
    ensure!(
        answer.status == 404 && answer.body.contains("\"errorCode\":100"),
        "{answer:?}"
    );
    let large = ask("PUT", &format!("{token}/d"), &"x".repeat(100 << 10)).await;
    ensure!(large.is_err() || large?.status == 413);

    tokio::time::sleep(Duration::from_secs(3)).await;
    let answer = ask("GET", &format!("{token}/_config/size"), "").await?;
    ensure!(answer.status == 404, "it has not expired: {answer:?}");
    for line in [
        "endpoint_new_requests_total{code=\"200\",method=\"GET\"} 2",
        "endpoint_new_requests_total{code=\"400\",method=\"GET\"} 3",
        "endpoint_new_requests_total{code=\"429\",method=\"GET\"} 1",
        "endpoint_token_requests_total{code=\"201\",method=\"PUT\"} 2",
        "endpoint_token_requests_total{code=\"403\",method=\"PUT\"} 2",
        "keelson_discovery_refused_total{limit=\"body\"} 1",
        "keelson_discovery_refused_total{limit=\"entries\"} 2",
        "keelson_discovery_refused_total{limit=\"new\"} 1",
        "keelson_discovery_tokens_made_total 2",
    ] {
        ensure!(has_metric(&service, line).await?, "{line}");
    }
    let answer = ask("GET", &format!("{}/metrics", service.url), "").await?;
    let kind = answer.header("Content-Type").context("no type")?;
    ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    // `/metrics` is not a token, and cannot become one.
    let put = ask("PUT", &format!("{}/metrics/a", service.url), "value=1").await?;
    ensure!(put.status == 404, "{put:?}");
    Ok(())
}

#[tokio::test]
async fn a_registry_that_is_away_is_said_to_be() -> Result<()> {
    let Some(mut etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let service = Service::before(&etcd.url(), ServiceOptions::default()).await?;
    let token = service.token("1").await?;
    let health = format!("{}/health", service.url);
    ensure!(ask("GET", &health, "").await?.body == "OK");
    etcd.down();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let answer = ask("GET", &health, "").await?;
    ensure!((answer.status, answer.body.as_str()) == (400, "health failed to setupToken\n"));
    let answer = ask("GET", &format!("{}/new", service.url), "").await?;
    ensure!((answer.status, answer.body.as_str()) == (400, "Unable to generate token\n"));
    ensure!(ask("GET", &token, "").await?.status == 500);
    let joining = tokio::spawn({
        let token = token.clone();
        async move { join(&token, &host(1, &token), &options(), None).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    etcd.up().await?;
    let outcome = tokio::time::timeout(SOON, joining).await???;
    ensure!(matches!(outcome, Outcome::Member { .. }), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn a_request_without_a_sound_host_is_refused() -> Result<()> {
    let service = with_memory_registry(ServiceOptions::default()).await?;
    let address = service.url.trim_start_matches("http://");
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a/b c\r\n"] {
        let mut socket = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET /new HTTP/1.1\r\n{fields}\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await?;
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    service.end().await
}
