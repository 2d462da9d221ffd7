//! One of the two servers, and etcdctl as its client.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_tests::bring_up::Host;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};

/// A command without an answer after this time hangs; etcdctl itself gives up after 5 s.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Time for a watcher that goes on to print its events.
const WATCHING: Duration = Duration::from_millis(1500);

/// The interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(5);

pub(crate) struct Side {
    etcdctl: PathBuf,
    pub(crate) cluster: Cluster,
    /// Queried in place of the members.
    proxy: Option<Host>,
    /// Whether etcdctl may use the members themselves once it has their addresses.
    sync: bool,
    /// Ids of members: of the one that was added, and of the last of the three.
    pub(crate) new: String,
    old: String,
    spare: u16,
}

impl Side {
    pub(crate) async fn start(binary: &Path, members: usize) -> Result<Side> {
        let etcdctl = binary::on_path("etcdctl").context("etcd is on PATH, but etcdctl is not")?;
        // etcd 3 refuses changes in the first five seconds of a leader; etcd 2 did not by default.
        let plan = Plan::new(binary, members)
            .flag("--enable-v2=true")
            .flag("--strict-reconfig-check=false");
        let mut side = Side {
            etcdctl,
            cluster: Cluster::start(&plan).await?,
            proxy: None,
            sync: true,
            new: "none".to_string(),
            old: "none".to_string(),
            spare: keelson_tests::proc::ports::free(1)?[0],
        };
        // Members publish their addresses by a write that may come after the first answer.
        let deadline = Instant::now() + LIMIT;
        loop {
            let (_, list, _) = side.call(&["member".to_string(), "list".to_string()], "")?;
            let known = list.matches("clientURLs=http").count();
            if known == members && list.contains("isLeader=true") {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{list}{}",
                side.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        side.old = side.id_of(&format!("name=m{members} "))?;
        Ok(side)
    }

    /// The same, with an etcdctl that uses only the endpoints it is given.
    pub(crate) async fn without_sync(binary: &Path, members: usize) -> Result<Side> {
        let side = Side::start(binary, members).await?;
        Ok(Side {
            sync: false,
            ..side
        })
    }

    pub(crate) async fn behind_a_proxy(binary: &Path, members: usize) -> Result<Side> {
        let mut side = Side::without_sync(binary, members).await?;
        let mut proxy = Host::proxy(binary, &side.cluster, "proxy")?;
        proxy.start()?;
        proxy.serves().await?;
        side.proxy = Some(proxy);
        Ok(side)
    }

    fn endpoints(&self) -> Vec<String> {
        match &self.proxy {
            Some(proxy) => vec![proxy.client_url.clone()],
            None => self.cluster.endpoints(),
        }
    }

    pub(crate) fn logs(&self) -> String {
        let proxy = self.proxy.as_ref().map(Host::log_tail);
        self.cluster.log_tails() + &proxy.unwrap_or_default()
    }

    /// The id of the member whose line contains these words.
    pub(crate) fn id_of(&self, words: &str) -> Result<String> {
        let (_, list, _) = self.call(&["member".to_string(), "list".to_string()], "")?;
        let line = list.lines().find(|line| line.contains(words));
        let id = line.and_then(|line| line.split([':', '[']).next());
        Ok(id.unwrap_or("none").to_string())
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.etcdctl);
        command.env("ETCDCTL_API", "2");
        if !arguments.iter().any(|argument| argument == "--endpoints") {
            let endpoints = self.endpoints().join(",");
            command.arg("--endpoints").arg(endpoints);
        }
        if !self.sync && !arguments.iter().any(|argument| argument == "--no-sync") {
            command.arg("--no-sync");
        }
        command.args(arguments);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs etcdctl: exit code, standard output, standard error.
    fn call(&self, arguments: &[String], input: &str) -> Result<(i32, String, String)> {
        let mut child = self.command(arguments).spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // It may have ended already, with nothing to read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        finish(child, LIMIT)
    }

    /// Runs a line of a script; returns the exit code and the masked output.
    pub(crate) fn line(&self, line: &str) -> Result<String> {
        let (arguments, input) = line.split_once(" <<< ").unwrap_or((line, ""));
        let arguments: Vec<String> = words(arguments)
            .iter()
            .map(|word| self.filled(word))
            .collect();
        let (code, out, err) = self.call(&arguments, input)?;
        Ok(self.masked(code, &out, &err))
    }

    fn filled(&self, word: &str) -> String {
        let own = self.cluster.members.last().map(|member| &member.peer_url);
        let own = own.map_or("", |url| url.trim_start_matches("http://"));
        word.replace("{PEER}", &format!("127.0.0.1:{}", self.spare))
            .replace("{NEW}", &self.new)
            .replace("{OLD}", &self.old)
            .replace("{OWN}", own)
    }

    fn masked(&self, code: i32, out: &str, err: &str) -> String {
        let mut lines: Vec<String> = out.lines().map(|line| self.mask(line)).collect();
        // Members are listed by id, and ids depend on ports.
        if out.contains("peerURLs=") || out.contains("is healthy") || out.contains("unreachable") {
            lines.sort();
        }
        let err: Vec<String> = err.lines().map(|line| self.mask(line)).collect();
        format!("exit code {code}\n{}\n{}", lines.join("\n"), err.join("\n"))
    }

    fn mask(&self, line: &str) -> String {
        let mut line = line.replace(&format!("127.0.0.1:{}", self.spare), "SPARE");
        let host = |url: &str| url.trim_start_matches("http://").to_string();
        for url in self.proxy.iter().map(|proxy| &proxy.client_url) {
            line = line.replace(&host(url), "CLIENT0");
        }
        for (number, member) in self.cluster.members.iter().enumerate() {
            line = line.replace(&host(&member.client_url), &format!("CLIENT{number}"));
            line = line.replace(&host(&member.peer_url), &format!("PEER{number}"));
        }
        // The order of the initial cluster is a map's; the leader is random.
        if let Some(list) = line.strip_prefix("ETCD_INITIAL_CLUSTER=\"") {
            let mut members: Vec<&str> = list.trim_end_matches('"').split(',').collect();
            members.sort_unstable();
            line = format!("ETCD_INITIAL_CLUSTER={members:?}");
        }
        let line = line
            .replace("isLeader=true", "isLeader")
            .replace("isLeader=false", "isLeader");
        mask_expiration(&mask_ids(&line))
    }

    /// Starts a watch, writes, and returns the watch's output; a watch that goes on is ended.
    pub(crate) fn watch(&self, watch: &str, writes: &[&str]) -> Result<String> {
        let before = self.watchers()?;
        let mut child = self.command(&words(watch)).stdin(Stdio::null()).spawn()?;
        let deadline = Instant::now() + LIMIT;
        while self.watchers()? <= before && child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{watch}: nobody watches");
            std::thread::sleep(POLL);
        }
        for write in writes {
            self.line(write)?;
        }
        let goes_on = watch.contains("--forever") || watch.starts_with("exec-watch");
        let (code, out, err) = finish(child, if goes_on { WATCHING } else { LIMIT })?;
        Ok(self.masked(code, &out, &err))
    }

    /// The number of watchers at all members.
    fn watchers(&self) -> Result<u64> {
        let mut watchers = 0;
        for member in &self.cluster.members {
            let stats = get(&member.client_url, "/v2/stats/store")?;
            watchers += stats["watchers"].as_u64().context("a number")?;
        }
        Ok(watchers)
    }

    /// Waits until the first `count` running members have the same member list: etcdctl uses any of
    /// them.
    pub(crate) fn agree(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut lists = Vec::new();
            for member in &self.cluster.members[..count] {
                let mut list = get(&member.client_url, "/v2/members")?;
                let members = list["members"].as_array_mut().context("members")?;
                members.sort_by_key(|member| member["id"].to_string());
                lists.push(list);
            }
            if lists.iter().all(|list| *list == lists[0]) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{lists:?}\n{}", self.logs());
            std::thread::sleep(POLL);
        }
    }
}

/// A member's answer as JSON.
fn get(url: &str, path: &str) -> Result<serde_json::Value> {
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    serde_json::from_str(body).with_context(|| format!("{path}: {answer}"))
}

/// Waits for the end of the process, or kills it: then the code is -1.
fn finish(mut child: Child, limit: Duration) -> Result<(i32, String, String)> {
    let deadline = Instant::now() + limit;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code().unwrap_or(-2);
        }
        if deadline < Instant::now() {
            child.kill()?;
            child.wait()?;
            break -1;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let (mut out, mut err) = (String::new(), String::new());
    child
        .stdout
        .take()
        .context("no output")?
        .read_to_string(&mut out)?;
    child
        .stderr
        .take()
        .context("no errors")?
        .read_to_string(&mut err)?;
    Ok((code, out, err))
}

/// Words of a line; quotes keep them together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_string());
        } else {
            words.extend(part.split_whitespace().map(str::to_string));
        }
    }
    words
}

/// Ids of members are the only long hexadecimal words.
fn mask_ids(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
        let end = end.unwrap_or(rest.len()).max(1);
        let (word, after) = rest.split_at(end);
        let hex = (13..=16).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit());
        out += if hex { "ID" } else { word };
        rest = after;
    }
    out
}

fn mask_expiration(line: &str) -> String {
    let Some((before, after)) = line.split_once("\"expiration\":\"") else {
        return line.to_string();
    };
    let after = after.split_once('"').map_or("", |(_, after)| after);
    format!("{before}\"expiration\":MASKED{}", mask_expiration(after))
}
