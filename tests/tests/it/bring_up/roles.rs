//! The settings of a single host: its directory, its environment, its ports, systemd.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_tests::bring_up::{Host, Notified, Platform, Role};
use keelson_tests::http::{Client, Request};
use keelson_tests::proc::{binary, ports};

async fn put(url: &str) -> Result<()> {
    let reply = Client::new(url)
        .ask(&Request::put("/v2/keys/a", "value=1"))
        .await?;
    ensure!(matches!(reply.status, 200 | 201), "{url}: {reply}");
    Ok(())
}

fn port_of(url: &str) -> &str {
    url.rsplit(':').next().unwrap_or_default()
}

#[tokio::test]
async fn a_directory_of_both_roles_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut host = Host::new(&binary::ours()?, dir.path(), "h1")?;
    std::fs::create_dir_all(host.data_dir().join("member"))?;
    std::fs::create_dir_all(host.data_dir().join("proxy"))?;
    host.refuses("invalid datadir. Both member and proxy directories exist.")
        .await
}

/// Flags for the other role have no effect.
#[tokio::test]
async fn the_directory_goes_before_the_flags() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = binary::ours()?;
    let member = Host::new(&ours, dir.path(), "h1")?;
    let cluster = member.entry();
    let mut member = member.with("ETCD_INITIAL_CLUSTER", &cluster);
    let proxy = Host::new(&ours, dir.path(), "h2")?;
    let mut proxy = proxy
        .with("ETCD_INITIAL_CLUSTER", &cluster)
        .with("ETCD_PROXY", "on");
    for host in [&mut member, &mut proxy] {
        host.start()?;
        host.serves().await?;
    }
    member.stop().await?;
    proxy.stop().await?;
    let mut member = member.with("ETCD_PROXY", "on");
    let own = proxy.entry();
    let mut proxy = proxy
        .with("ETCD_PROXY", "off")
        .with("ETCD_INITIAL_CLUSTER", &own);
    for host in [&mut member, &mut proxy] {
        host.start()?;
    }
    for host in [&mut member, &mut proxy] {
        host.serves().await?;
        put(&host.client_url).await?;
    }
    ensure!((member.role(), proxy.role()) == (Role::Member, Role::Proxy));
    Ok(())
}

/// The only way from a proxy to a member: an operator runs the command and follows its output.
#[tokio::test]
async fn a_proxy_becomes_a_member_when_it_is_promoted() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 2, 1).await?;
    platform.start(&[0, 1])?;
    platform.serves().await?;
    let number = usize::from(platform.hosts[0].role() == Role::Member);
    put(&platform.hosts[number].client_url).await?;
    let mut proxy = platform.hosts.remove(number);
    proxy.stop().await?;
    // An attempt that was cut short after the cluster had added the member.
    let member = &platform.hosts[0].client_url;
    let body = format!(r#"{{"peerURLs":["{}"],"isLearner":true}}"#, proxy.peer_url);
    let add = Request::new("POST", "/v3/cluster/member/add").body(body);
    let added = Client::new(member).ask(&add).await?;
    ensure!(added.status == 200, "{added}");
    let promoted = Command::new(binary::ours()?)
        .args(["promote", "--name", &proxy.name, "--data-dir"])
        .arg(proxy.data_dir())
        .args(["--initial-advertise-peer-urls", &proxy.peer_url])
        .output()?;
    let said = String::from_utf8(promoted.stdout)?;
    ensure!(
        promoted.status.success(),
        "{said}{}",
        String::from_utf8(promoted.stderr)?
    );
    // A voter that has not started would be half of two.
    put(&platform.hosts[0].client_url).await?;
    let mut member = proxy.without("ETCD_DISCOVERY");
    for line in said.lines().filter(|line| line.starts_with("ETCD_")) {
        let (name, text) = line.split_once('=').context("a variable")?;
        member = member.with(name, text.trim_matches('"'));
    }
    member.start()?;
    member.serves().await?;
    ensure!(member.role() == Role::Member, "{}", member.log_tail());
    let read = Request::get("/v2/keys/a");
    let reply = Client::new(&member.client_url).ask(&read).await?;
    ensure!(reply.status == 200, "{reply}");
    let mut other = Client::new(&platform.hosts[0].client_url);
    let members = other.ask(&Request::get("/v2/members")).await?.json();
    let members = members.and_then(|json| json["members"].as_array().map(Vec::len));
    ensure!(members == Some(2), "{members:?}");
    let list = Request::new("POST", "/v3/cluster/member/list").body("{}");
    let votes = async {
        while other.ask(&list).await?.text().contains("isLearner")
            || member.data_dir().join("promoted").exists()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), votes).await;
    in_time.with_context(|| member.log_tail())??;
    Ok(())
}

/// The settings that CoreOS's cloud-init makes of Deis's user-data, except for the ports: no flags,
/// two listeners.
#[tokio::test]
async fn a_deis_host_is_configured_by_its_environment_alone() -> Result<()> {
    let mut platform = Platform::ours(&binary::ours()?, 0, 1).await?;
    let mut hosts = Vec::new();
    for name in ["0123456789abcdef", "fedcba9876543210"] {
        let host = Host::bare(&binary::ours()?, platform.dir(), name)?;
        let spare: Vec<String> = ports::free(2)?.iter().map(u16::to_string).collect();
        let (client, peer) = (host.client_url.clone(), host.peer_url.clone());
        let everywhere = |url: &str, spare: &str| {
            format!("http://0.0.0.0:{},http://0.0.0.0:{spare}", port_of(url))
        };
        let host = host
            .with("ETCD_DISCOVERY", &platform.token)
            .with("ETCD_ADVERTISE_CLIENT_URLS", &client)
            .with("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer)
            .with("ETCD_LISTEN_CLIENT_URLS", &everywhere(&client, &spare[0]))
            .with(
                "ETCD_LISTEN_PEER_URLS",
                &format!("{peer},http://127.0.0.1:{}", spare[1]),
            );
        platform.hosts.push(host);
        hosts.push((client, format!("http://127.0.0.1:{}", spare[0])));
    }
    platform.start(&[0, 1])?;
    platform.serves().await?;
    platform.has_members(1).await?;
    for (client, spare) in &hosts {
        for url in [client, spare] {
            put(url).await?;
            let machines = Client::new(url).ask(&Request::get("/v2/machines")).await?;
            let member = platform
                .hosts
                .iter()
                .find(|host| host.role() == Role::Member);
            let advertised = &member.context("a member")?.client_url;
            ensure!(machines.text() == *advertised, "{url}: {machines}");
        }
    }
    Ok(())
}

/// Deis's test-etcd image sets `ETCD_ADDR`, and etcd 2 still accepted the names of etcd 0.4.
#[tokio::test]
async fn names_of_etcd_0_4_are_understood() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = binary::ours()?;
    let host = Host::bare(&ours, dir.path(), "h1")?;
    let (client, peer) = (host.client_url.clone(), host.peer_url.clone());
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let mut by_environment = host
        .with("ETCD_ADDR", &address(&client))
        .with("ETCD_PEER_ADDR", &address(&peer));
    let host = Host::bare(&ours, dir.path(), "h2")?;
    let (advertised, peer) = (ports::free(1)?[0], host.peer_url.clone());
    let own = address(&host.client_url);
    let mut by_flag = host
        .flag(&format!("-addr=127.0.0.1:{advertised}"))
        .flag(&format!("-bind-addr={own}"))
        .flag(&format!("-peer-addr={}", address(&peer)))
        .flag(&format!("-peer-bind-addr={}", address(&peer)));
    let advertised = format!("http://127.0.0.1:{advertised}");
    for (host, told) in [(&mut by_environment, &client), (&mut by_flag, &advertised)] {
        host.start()?;
        host.serves().await?;
        let mut client = Client::new(&host.client_url);
        let machines = client.ask(&Request::get("/v2/machines")).await?;
        ensure!(machines.text() == **told, "{machines}");
        put(&host.client_url).await?;
    }
    // `addr` alone listens on all interfaces, on both families.
    put(&format!("http://[::1]:{}", port_of(&client))).await
}

/// Other units of a Deis host wait for READY=1: at that moment a write must succeed.
#[tokio::test]
async fn readiness_is_said_when_a_write_works() -> Result<()> {
    const SOON: Duration = Duration::from_millis(800);
    const LIMIT: Duration = Duration::from_secs(60);
    let mut platform = Platform::ours(&binary::ours()?, 0, 2).await?;
    let mut notified = Vec::new();
    for name in ["h1", "h2", "h3"] {
        let socket = Notified::listen(platform.dir(), name)?;
        let host = Host::new(&binary::ours()?, platform.dir(), name)?
            .with("ETCD_DISCOVERY", &platform.token)
            .with("NOTIFY_SOCKET", &socket.path());
        platform.hosts.push(host);
        notified.push(socket);
    }
    // One of two: it runs, and no write would succeed.
    platform.start(&[0])?;
    platform.hosts[0].says("waiting for 1 more").await?;
    let early = notified[0].hears(SOON).await?;
    ensure!(early.is_none(), "{early:?}");
    platform.start(&[1, 2])?;
    for (host, socket) in platform.hosts.iter().zip(&notified) {
        let said = socket.hears(LIMIT).await?;
        ensure!(
            said.as_deref() == Some("READY=1"),
            "{said:?}\n{}",
            platform.log_tails()
        );
        put(&host.client_url).await?;
    }
    platform.has_members(2).await
}

/// As in etcd: systemd would end a `Type=notify` unit that waited for members.
#[tokio::test]
async fn a_proxy_without_members_is_ready_when_it_listens() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let dir = tempfile::tempdir()?;
    let ours = binary::ours()?;
    let member = Host::new(&ours, dir.path(), "h1")?;
    let cluster = member.entry();
    let mut member = member.with("ETCD_INITIAL_CLUSTER", &cluster);
    let socket = Notified::listen(dir.path(), "h2")?;
    let mut proxy = Host::new(&ours, dir.path(), "h2")?
        .with("ETCD_INITIAL_CLUSTER", &cluster)
        .with("ETCD_PROXY", "on")
        .with("NOTIFY_SOCKET", &socket.path());
    proxy.start()?;
    let said = socket.hears(LIMIT).await?;
    ensure!(
        said.as_deref() == Some("READY=1"),
        "{said:?}\n{}",
        proxy.log_tail()
    );
    member.start()?;
    proxy.serves().await?;
    put(&proxy.client_url).await
}

/// Another program may have 4001; only 2379 is required.
#[tokio::test]
async fn the_second_default_port_may_be_taken() -> Result<()> {
    let loopback = Ipv4Addr::LOCALHOST;
    let free = |port| TcpListener::bind((loopback, port));
    let (Ok(first), Ok(taken)) = (free(2379), free(4001)) else {
        // These are the machine's ports, and not a program that could be installed.
        eprintln!("skipped: 2379 or 4001 is taken");
        return Ok(());
    };
    drop(first);
    let dir = tempfile::tempdir()?;
    let mut host = Host::bare(&binary::ours()?, dir.path(), "h1")?;
    host.client_url = "http://127.0.0.1:2379".to_owned();
    let peer = host.peer_url.clone();
    let mut host = host
        .with("ETCD_LISTEN_PEER_URLS", &peer)
        .with("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer);
    host.start()?;
    host.serves().await?;
    put(&host.client_url).await?;
    let log = host.log();
    ensure!(
        log.contains("not listening on http://localhost:4001"),
        "{log}"
    );
    host.stop().await?;
    drop(taken);
    host.start()?;
    host.serves().await?;
    put("http://127.0.0.1:4001").await
}
