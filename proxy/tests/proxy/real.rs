//! The proxy before a real etcd 3.4, used by the real etcdctl.

mod streams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keelson_proxy::{MembersFrom, ProxyConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time;

use crate::ports;
use crate::support::{Client, Running, get, put};

/// More than etcd takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[expect(
    clippy::disallowed_methods,
    reason = "`cargo test` can pass no flags; nothing else here reads the environment"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether there is such a program. In CI there must be.
fn is_there(program: &str) -> bool {
    let path = setting("PATH").unwrap_or_default();
    let mut places = path
        .split(':')
        .map(|place| PathBuf::from(place).join(program));
    let found = places.any(|place| place.is_file());
    if !found {
        assert_ne!(
            setting("CI").as_deref(),
            Some("true"),
            "{program} is not on PATH"
        );
        eprintln!("skipped: {program} not on PATH");
    }
    found
}

/// A member of a cluster.
struct Etcd {
    dir: tempfile::TempDir,
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    /// `--initial-cluster`.
    cluster: String,
    child: Option<Child>,
}

fn free() -> SocketAddr {
    let port = ports::free(1).unwrap()[0];
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Etcd {
    /// A cluster of one.
    async fn start() -> Option<Etcd> {
        Some(Etcd::cluster(1).await?.remove(0))
    }

    async fn cluster(size: usize) -> Option<Vec<Etcd>> {
        if !is_there("etcd") || !is_there("etcdctl") {
            return None;
        }
        let mut members = vec![];
        for number in 1..=size {
            members.push(Etcd {
                dir: tempfile::tempdir().unwrap(),
                name: format!("m{number}"),
                client: free(),
                peer: free(),
                cluster: String::new(),
                child: None,
            });
        }
        let named = |one: &Etcd| format!("{}=http://{}", one.name, one.peer);
        let cluster = members.iter().map(named).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.cluster.clone_from(&cluster);
            member.spawn();
        }
        for member in &members {
            member.answers().await;
        }
        Some(members)
    }

    async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    async fn restart(&mut self) {
        self.spawn();
        self.answers().await;
    }

    fn spawn(&mut self) {
        let client = format!("http://{}", self.client);
        let peer = format!("http://{}", self.peer);
        let child = Command::new("etcd")
            .env_clear()
            .args(["--enable-v2=true", "--name", &self.name, "--data-dir"])
            .arg(self.dir.path().join("data"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &self.cluster])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.unwrap());
    }

    async fn answers(&self) {
        let asking = async {
            while tokio::net::TcpStream::connect(self.client).await.is_err()
                || get(self.client, "/health").await.status != 200
            {
                time::sleep(Duration::from_millis(50)).await;
            }
        };
        time::timeout(PATIENCE, asking).await.expect("etcd starts");
    }

    async fn proxy(&self) -> Running {
        self.proxy_of(1).await
    }

    async fn proxy_of(&self, size: usize) -> Running {
        let peers = vec![format!("http://{}", self.peer)];
        let mut config = ProxyConfig::new(MembersFrom::Peers(peers));
        config.refresh_interval = Duration::from_secs(1);
        Running::start(config).await.knows(size).await
    }
}

/// etcdctl with the proxy as its only endpoint.
fn etcdctl(proxy: &Running, api: &str, args: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    let mut endpoint = proxy.address.to_string();
    if api == "2" {
        endpoint = format!("http://{endpoint}");
    }
    command
        .env_clear()
        .env("ETCDCTL_API", api)
        .args(["--endpoints", &endpoint])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[track_caller]
fn said(output: std::process::Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

async fn run(proxy: &Running, api: &str, args: &[&str]) -> String {
    let running = etcdctl(proxy, api, args).output();
    said(
        time::timeout(PATIENCE, running)
            .await
            .expect("etcdctl ends")
            .unwrap(),
    )
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = time::timeout(PATIENCE, lines.next_line()).await;
    line.expect("a line in time").unwrap().expect("a line")
}

#[tokio::test]
async fn etcdctl_2_works_through_it() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let proxy = etcd.proxy().await;
    let two = async |args: &[&str]| run(&proxy, "2", args).await;
    assert_eq!(two(&["set", "/deis/a", "1"]).await, "1\n");
    assert_eq!(two(&["get", "/deis/a"]).await, "1\n");
    assert_eq!(two(&["mk", "/deis/b", "2"]).await, "2\n");
    assert_eq!(
        two(&["ls", "--sort", "--recursive", "/deis"]).await,
        "/deis/a\n/deis/b\n"
    );
    assert!(two(&["member", "list"]).await.contains("name=m1"));
    assert!(
        two(&["cluster-health"])
            .await
            .contains("cluster is healthy")
    );
    assert_eq!(two(&["rm", "/deis/a"]).await, "PrevNode.Value: 1\n");
    // No sync, as Deis's containers: what follows went through the proxy for sure.
    assert_eq!(
        run(&proxy, "2", &["--no-sync", "set", "/c", "3"]).await,
        "3\n"
    );
    let metrics = get(proxy.address, "/metrics").await.body;
    assert!(metrics.contains("etcd_proxy_handled_total{code=\"201\",method=\"PUT\"} 1"));
    proxy.stop().await;
}

#[tokio::test]
async fn etcdctl_3_works_through_it() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let proxy = etcd.proxy().await;
    let three = async |args: &[&str]| run(&proxy, "3", args).await;
    assert_eq!(three(&["put", "a", "1"]).await, "OK\n");
    assert_eq!(three(&["get", "a"]).await, "a\n1\n");
    assert!(three(&["member", "list"]).await.contains("started, m1"));
    assert!(three(&["endpoint", "status"]).await.contains("3.4."));
    assert!(
        three(&["lease", "grant", "60"])
            .await
            .contains("granted with TTL(60s)")
    );
    let large = "x".repeat(1 << 20);
    assert_eq!(three(&["put", "large", &large[..100_000]]).await, "OK\n");
    let file = etcd.dir.path().join("snapshot");
    three(&["snapshot", "save", file.to_str().unwrap()]).await;
    assert!(0 < std::fs::metadata(file).unwrap().len());
    let mut json = Client::connect(proxy.address).await;
    let body = "{\"key\":\"YQ==\"}";
    let answer = json.ask("POST", "/v3/kv/range", body).await;
    assert!(
        answer.body.contains("\"value\":\"MQ==\""),
        "{}",
        answer.body
    );
    proxy.stop().await;
}

#[tokio::test]
async fn a_v3_watch_is_told_what_happens() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let proxy = etcd.proxy().await;
    let mut watch = etcdctl(&proxy, "3", &["watch", "a"]).spawn().unwrap();
    let mut heard = lines(&mut watch);
    // Until the watch is there, puts come too early for it.
    let putting = async {
        loop {
            run(&proxy, "3", &["put", "a", "1"]).await;
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        first = line(&mut heard) => assert_eq!(first, "PUT"),
        () = putting => {}
    }
    assert_eq!(line(&mut heard).await, "a");
    assert_eq!(line(&mut heard).await, "1");
    watch.kill().await.unwrap();
    let mut rest = String::new();
    watch
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .await
        .unwrap();
    proxy.stop().await;
}

#[tokio::test]
async fn a_v2_watch_outlives_its_member() {
    let Some(mut etcd) = Etcd::start().await else {
        return;
    };
    let proxy = etcd.proxy().await;
    put(proxy.address, "/v2/keys/a", "value=1").await;
    let mut waiting = Client::connect(proxy.address).await;
    waiting.send("GET", "/v2/keys/a?wait=true", "").await;
    let head = waiting.head().await;
    assert_eq!(head.status, 200);
    assert!(head.field("X-Etcd-Index").is_some());
    etcd.kill().await;
    // Held while no member is usable, and executed once one is.
    let held = tokio::spawn(put(proxy.address, "/v2/keys/b", "value=2"));
    etcd.restart().await;
    assert_eq!(held.await.unwrap().status, 201);
    let set = put(proxy.address, "/v2/keys/a", "value=3").await;
    assert_eq!(set.status, 200, "{}", set.body);
    let event = waiting.chunks().await;
    assert!(event.contains("\"value\":\"3\""), "{event}");
    assert_eq!(run(&proxy, "3", &["put", "a", "1"]).await, "OK\n");
    proxy.stop().await;
}

/// How many writes over HTTP/1.1 a member has been given itself.
async fn puts(member: &Etcd) -> u64 {
    let metrics = get(member.client, "/metrics").await.body;
    let name = "etcd_http_received_total{method=\"PUT\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |count| count.parse().unwrap())
}

async fn leader_of(members: &[Etcd]) -> Option<usize> {
    for (place, member) in members.iter().enumerate() {
        if member.child.is_some() {
            let stats = get(member.client, "/v2/stats/self").await.body;
            if stats.contains("StateLeader") {
                return Some(place);
            }
        }
    }
    None
}

#[tokio::test]
async fn writes_go_to_the_leader_and_to_the_next_one() {
    let Some(mut members) = Etcd::cluster(3).await else {
        return;
    };
    let proxy = members[0].proxy_of(3).await;
    for _ in 0..2 {
        let leader = leader_of(&members).await.unwrap();
        proxy
            .follows(&format!("http://{}", members[leader].client))
            .await;
        let before = puts(&members[leader]).await;
        for _ in 0..10 {
            let answer = put(proxy.address, "/v2/keys/a", "value=1").await;
            assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
        }
        assert_eq!(puts(&members[leader]).await, before + 10);
        assert_eq!(run(&proxy, "3", &["put", "a", "1"]).await, "OK\n");
        members[leader].kill().await;
        while leader_of(&members).await.is_none() {
            time::sleep(Duration::from_millis(100)).await;
        }
        members[leader].restart().await;
    }
    proxy.stop().await;
}

/// What a client has seen of its writes.
#[derive(Default)]
struct Written {
    done: Vec<String>,
    unknown: Vec<String>,
}

/// POSTs in-order keys with values of its own, each once.
async fn write(proxy: SocketAddr, writer: usize, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    let mut client = Client::connect(proxy).await;
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let value = format!("w{writer}-{number}.");
        let answer = client
            .ask("POST", "/v2/keys/queue", &format!("value={value}"))
            .await;
        match answer.status {
            201 => written.done.push(value),
            500 => written.unknown.push(value),
            status => panic!("{status}: {}", answer.body),
        }
    }
    written
}

/// Adds one to a counter by compare-and-swap; returns how often it succeeded, and how often the
/// outcome is unknown.
async fn count(proxy: SocketAddr, stop: Arc<AtomicBool>) -> (u64, u64) {
    let mut client = Client::connect(proxy).await;
    let (mut done, mut unknown) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        let read = client.ask("GET", "/v2/keys/counter?quorum=true", "").await;
        let Ok(read) = serde_json::from_str::<serde_json::Value>(&read.body) else {
            continue;
        };
        let Some(value) = read["node"]["value"].as_str() else {
            continue;
        };
        let next = value.parse::<u64>().unwrap() + 1;
        let path = format!("/v2/keys/counter?prevValue={value}");
        let answer = client.ask("PUT", &path, &format!("value={next}")).await;
        match answer.status {
            200 => done += 1,
            500 => unknown += 1,
            412 => {}
            status => panic!("{status}: {}", answer.body),
        }
    }
    (done, unknown)
}

/// Local reads never fail while a member lives.
async fn read(proxy: SocketAddr, stop: Arc<AtomicBool>) -> usize {
    let mut client = Client::connect(proxy).await;
    let mut reads = 0;
    while !stop.load(Ordering::SeqCst) {
        let answer = client.ask("GET", "/v2/keys/counter", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        reads += 1;
    }
    reads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_die_under_load_fail_no_read_and_double_no_write() {
    let Some(mut members) = Etcd::cluster(3).await else {
        return;
    };
    let proxy = members[0].proxy_of(3).await;
    let address = proxy.address;
    assert_eq!(
        put(address, "/v2/keys/counter", "value=0").await.status,
        201
    );
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| tokio::spawn(write(address, writer, Arc::clone(&stop))))
        .collect();
    let counters: Vec<_> = (0..2)
        .map(|_| tokio::spawn(count(address, Arc::clone(&stop))))
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(read(address, Arc::clone(&stop))))
        .collect();
    for member in &mut members {
        time::sleep(Duration::from_millis(700)).await;
        member.kill().await;
        time::sleep(Duration::from_millis(700)).await;
        member.restart().await;
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(0 < reader.await.unwrap());
    }
    let (mut done, mut unknown) = (0, 0);
    for counter in counters {
        let counted = counter.await.unwrap();
        (done, unknown) = (done + counted.0, unknown + counted.1);
    }
    let counter = get(address, "/v2/keys/counter?quorum=true").await.body;
    let counter: serde_json::Value = serde_json::from_str(&counter).unwrap();
    let value: u64 = counter["node"]["value"].as_str().unwrap().parse().unwrap();
    assert!(
        (done..=done + unknown).contains(&value),
        "{value} of {done} and {unknown}"
    );
    let queue = get(address, "/v2/keys/queue?quorum=true").await.body;
    let mut all = 0;
    for writer in writers {
        let written = writer.await.unwrap();
        for value in &written.done {
            assert_eq!(queue.matches(value).count(), 1, "{value}");
        }
        for value in &written.unknown {
            assert!(queue.matches(value).count() <= 1, "{value}");
        }
        all += written.done.len();
    }
    assert!(0 < all, "no writes");
    eprintln!("{all} writes, {unknown} and more unknown, counter {value}");
    proxy.stop().await;
}
