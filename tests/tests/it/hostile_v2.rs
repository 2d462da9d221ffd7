//! Malformed input to the running server: every request is answered or cut off, and the server goes
//! on serving other clients.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::http::{Client, Reply, Request};
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit for an answer or a cut.
const LIMIT: Duration = Duration::from_secs(40);

/// Time limit for answers to other clients.
const OTHERS: Duration = Duration::from_secs(5);

/// Segments of a deep path.
const DEEP: usize = 10_000; // etcd hangs up on a request line of more than 4 KiB.

/// A body size that no client of etcd sends.
const HUGE: usize = 100 << 20;

/// Endless headers are cut before this many bytes: 64 times Go's limit.
const HEADERS: usize = 64 << 20;

/// The server's peak of memory, in KiB, above its initial size: several copies of a huge body would
/// not fit.
const MEMORY_KIB: u64 = 400 << 10;

struct Server {
    cluster: Cluster,
    written: u64,
}

impl Server {
    async fn start() -> Result<Server> {
        let plan = Plan::new(&binary::ours()?, 1).flag("--enable-v2=true");
        let cluster = Cluster::start(&plan).await?;
        Ok(Server {
            cluster,
            written: 0,
        })
    }

    fn client(&self, patience: Duration) -> Client {
        Client::patient(&self.cluster.members[0].client_url, patience)
    }

    async fn connect(&self) -> Result<TcpStream> {
        Ok(TcpStream::connect(self.client(LIMIT).host()).await?)
    }

    /// Sends a request with a longer time limit than other clients have.
    async fn ask(&self, request: &Request) -> Result<Reply> {
        self.client(LIMIT).ask(request).await
    }

    /// Checks that the server still writes and reads for other clients.
    async fn serves(&mut self, after: &str) -> Result<()> {
        self.written += 1;
        let value = self.written.to_string();
        let write = Request::put("/v2/keys/alive", format!("value={value}"));
        let mut client = self.client(OTHERS);
        for request in [write, Request::get("/v2/keys/alive?quorum=true")] {
            let reply = client.ask(&request).await;
            self.cluster.members[0].alive()?;
            let reply = reply.with_context(|| format!("after {after}"))?;
            let json = reply.json().unwrap_or_default();
            ensure!(json["node"]["value"] == value, "after {after}: {reply}");
        }
        Ok(())
    }

    /// The peak of resident memory in KiB, where the system reports it.
    fn peak(&self) -> Option<u64> {
        let pid = self.cluster.members[0].pid()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// Sends the bytes; returns the answer until the server closed the connection or fell silent.
    async fn raw(&self, bytes: &[u8]) -> Result<String> {
        let mut stream = self.connect().await?;
        // A server that cuts early resets the connection during the write.
        let _ = timeout(LIMIT, stream.write_all(bytes)).await;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while answer.len() < 1 << 20 {
            match timeout(Duration::from_millis(300), stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) | Err(_) => break,
                Ok(Ok(count)) => answer.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Checks that a request was answered or cut in time.
fn settled(what: &str, answer: &Result<Reply>) -> Result<()> {
    match answer {
        Ok(reply) => println!("{what}: {}", reply.status),
        Err(error) => {
            let text = format!("{error:#}");
            println!("{what}: {text}");
            ensure!(!text.contains("no answer in"), "{what} hangs: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn huge_keys_and_queries_are_answered_or_cut() -> Result<()> {
    let mut server = Server::start().await?;
    for length in [10_000, 100_000, 1_000_000, 8_000_000] {
        let targets = [
            format!("/v2/keys/{}", "k".repeat(length)),
            format!("/v2/keys/q?value={}", "v".repeat(length)),
            format!("/v2/keys/q?{}", "a=1&".repeat(length / 4)),
            format!("/v2/keys/{}", "%41".repeat(length / 3)),
            format!("/v2/keys{}", "/".repeat(length)),
        ];
        for (number, target) in targets.iter().enumerate() {
            let what = format!("target {number} of {length} bytes");
            let answer = server.ask(&Request::put(target, "value=1")).await;
            settled(&what, &answer)?;
            server.serves(&what).await?;
        }
    }
    let list = server.ask(&Request::get("/v2/keys?recursive=true")).await?;
    ensure!(list.status == 200, "{}", list.status);
    Ok(())
}

#[tokio::test]
async fn ten_thousand_directories_in_one_another() -> Result<()> {
    let mut server = Server::start().await?;
    let deep = format!("/v2/keys{}", "/d".repeat(DEEP));
    let created = server.ask(&Request::put(&deep, "value=bottom")).await;
    settled("deep create", &created)?;
    server.serves("a deep create").await?;
    let there = created.is_ok_and(|reply| reply.status == 201);
    let mut targets = vec![
        deep.clone(),
        format!("{deep}/below/the/file"),
        "/v2/keys?recursive=true&sorted=true".to_string(),
        "/v2/keys/d?recursive=true".to_string(),
    ];
    if there {
        targets.push("/v2/keys/d?recursive=true&wait=true&waitIndex=1".to_string());
    }
    for target in targets {
        let what: String = target.chars().take(40).collect();
        let answer = server.ask(&Request::get(&target)).await;
        settled(&what, &answer)?;
        server.serves(&what).await?;
    }
    if there {
        // Data that it has accepted it must also be able to load from its disk.
        server.cluster.kill(0);
        server.cluster.restart_all().await?;
        server.serves("a restart with a deep tree").await?;
        let read = server.ask(&Request::get(&deep)).await?;
        ensure!(read.text().contains("\"bottom\""), "{}", read.status);
    }
    let delete = Request::new("DELETE", "/v2/keys/d?recursive=true");
    settled("deep delete", &server.ask(&delete).await)?;
    server.serves("a deep delete").await
}

#[tokio::test]
async fn a_body_of_a_hundred_megabytes_is_bounded() -> Result<()> {
    let mut server = Server::start().await?;
    let before = server.peak();
    let big = vec![b'x'; HUGE];
    let form = [b"value=".as_slice(), &big].concat();
    let json = |method: &str, target: &str| {
        Request::new(method, target)
            .header("Content-Type", "application/json")
            .body(&big)
    };
    for request in [
        Request::put("/v2/keys/big", &form),
        Request::new("POST", "/v2/keys/big").form(&form),
        Request::new("PUT", "/v2/keys/big").body(&big),
        json("POST", "/v2/members"),
        json("PUT", "/v2/auth/users/u"),
        Request::get("/v2/keys/big").body(&big),
        Request::new("DELETE", "/v2/keys/big").form(&form),
    ] {
        let what = format!(
            "{} {} and a huge body",
            request.method,
            request.target_text()
        );
        settled(&what, &server.ask(&request).await)?;
        server.serves(&what).await?;
    }
    let answer = server.raw(&chunked(&big)).await?;
    println!("chunked: {:?}", answer.lines().next());
    server.serves("a huge chunked body").await?;
    if let (Some(before), Some(after)) = (before, server.peak()) {
        println!("peak memory {before} KiB before, {after} KiB after");
        // etcd reads bodies as a whole, and some of them several times; ours has a stricter bound.
        let ours = !binary::ours()?.ends_with("etcd");
        let within = after < before + MEMORY_KIB;
        ensure!(!ours || within, "{before} KiB grew to {after} KiB");
    }
    Ok(())
}

/// A PUT of the body in chunks of a mebibyte.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"PUT /v2/keys/big HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        .to_vec();
    for chunk in body.chunks(1 << 20) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn endless_heads_are_cut() -> Result<()> {
    let mut server = Server::start().await?;
    let line = format!("X-Endless: {}\r\n", "e".repeat(1000));
    let begins = [
        ("headers", "GET /v2/keys HTTP/1.1\r\nHost: h\r\n"),
        ("one header", "GET /v2/keys HTTP/1.1\r\nHost: h\r\nX-One: "),
        ("a request line", "GET /v2/keys/"),
        ("a method", ""),
    ];
    for (what, begin) in begins {
        let piece = if what == "headers" {
            line.clone()
        } else {
            "e".repeat(1000)
        };
        let mut stream = server.connect().await?;
        stream.write_all(begin.as_bytes()).await?;
        let (mut sent, began) = (0, Instant::now());
        // It has closed the connection, or does not read any more.
        while let Ok(Ok(())) =
            timeout(Duration::from_secs(2), stream.write_all(piece.as_bytes())).await
        {
            sent += piece.len();
            let endless = HEADERS < sent || LIMIT < began.elapsed();
            ensure!(!endless, "endless {what}: {sent} bytes were taken");
        }
        println!("endless {what}: cut after {sent} bytes");
        server.serves(&format!("endless {what}")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn slow_clients_hold_up_nobody() -> Result<()> {
    let mut server = Server::start().await?;
    let mut slow = Vec::new();
    let request = b"PUT /v2/keys/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nvalue=";
    for number in 0..400 {
        let mut stream = server.connect().await?;
        // Some send nothing at all, some stop within the head, some within the body.
        let said = [0, 7, 30, request.len()][number % 4];
        stream.write_all(&request[..said]).await?;
        slow.push(stream);
    }
    for round in 0..5 {
        let began = Instant::now();
        server.serves("slow clients").await?;
        let took = began.elapsed();
        ensure!(took < OTHERS, "round {round}: {took:?}");
        for stream in &mut slow {
            // A client that was cut off gets the expected result.
            let _ = stream.write_all(b"x").await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

#[tokio::test]
async fn watchers_that_go_without_a_word_are_forgotten() -> Result<()> {
    let mut server = Server::start().await?;
    let client = server.client(LIMIT);
    let mut watchers = Vec::new();
    for number in 0..500 {
        let target = format!(
            "/v2/keys/w{}?wait=true&stream=true&recursive=true",
            number % 7
        );
        watchers.push(client.open(&Request::get(target)).await?);
    }
    server.serves("watchers").await?;
    drop(watchers);
    for number in 0..20 {
        let request = Request::put(format!("/v2/keys/w{}/x", number % 7), "value=1");
        let reply = server.ask(&request).await?;
        ensure!(reply.status < 300, "{reply}");
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let stats = server.ask(&Request::get("/v2/stats/store")).await?;
        let watching = stats.json().unwrap_or_default()["watchers"].clone();
        if watching == 0 {
            break;
        }
        ensure!(Instant::now() < deadline, "{watching} watchers are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.serves("watchers that are gone").await
}

#[tokio::test]
async fn what_is_no_http_is_refused() -> Result<()> {
    let mut server = Server::start().await?;
    for input in nonsense() {
        let what: String = input.chars().take(90).collect();
        let answer = server.raw(input.as_bytes()).await;
        let Ok(answer) = answer else {
            bail!("{what:?}: {answer:?}");
        };
        println!("{what:?}: {:?}", answer.lines().next());
        server.serves(&what).await?;
    }
    Ok(())
}

/// Requests that no client sends.
fn nonsense() -> Vec<String> {
    let put = |rest: &str| format!("PUT /v2/keys/x HTTP/1.1\r\nHost: h\r\n{rest}");
    let get = |rest: &str| format!("GET /v2/keys HTTP/1.1\r\nHost: h\r\n{rest}\r\n");
    let long = "9".repeat(400);
    let mut inputs: Vec<String> = [
        "\0\0\0\0\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage that is no frame at all",
        "GET\r\n\r\n",
        "GET /v2/keys\r\n\r\n",
        "GET /v2/keys HTTP/1.0\r\n\r\n",
        "GET /v2/keys HTTP/1.1\r\n\r\n",
        "GET /v2/keys HTTP/3.9\r\nHost: h\r\n\r\n",
        "GET http://other:1/v2/keys HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /v2/keys/\u{1}\u{7f} HTTP/1.1\r\nHost: h\r\n\r\n",
    ]
    .map(str::to_string)
    .to_vec();
    inputs.extend([
        get("no colon here\r\n"),
        get(" folded: x\r\n"),
        get("\r\n").repeat(200),
        put("Content-Length: -1\r\n\r\n"),
        put(&format!("Content-Length: {long}\r\n\r\nvalue=1")),
        put("Content-Length: 7\r\nContent-Length: 8\r\n\r\nvalue=12"),
        put("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        put("Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
        put(&format!("Transfer-Encoding: chunked\r\n\r\n{long}\r\n\r\n")),
        put("Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"),
        put("Transfer-Encoding: gzip\r\n\r\n"),
        put("Expect: 100-continue\r\nContent-Length: 7\r\n\r\n"),
        put("Expect: nonsense\r\nContent-Length: 7\r\n\r\nvalue=1"),
        put("Content-Length: 100\r\n\r\nvalue=1"),
        put("Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"),
        put(&format!(
            "Authorization: Basic {}\r\nContent-Length: 0\r\n\r\n",
            "A".repeat(60_000)
        )),
    ]);
    inputs
}
