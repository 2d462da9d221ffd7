//! Debian's etcdctl 3.4.23 with Keelson and with Debian's etcd: the same output, the same exit
//! code.
//!
//! Ids, addresses, versions, sizes, terms and log positions are masked; everything else must agree,
//! also through a proxy.

mod accounts;
mod script;
mod stream;

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use keelson_tests::bring_up::Host;
use keelson_tests::proc::binary;
use keelson_tests::proc::cluster::{Cluster, Plan};
use serde_json::Value;

use accounts::ACCOUNTS;
use script::SCRIPT;
use stream::Stream;

/// Keys of JSON and of `-w fields` whose values name one member or one run.
const MASKED: [&str; 15] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "ID",
    "leader",
    "version",
    "dbSize",
    "dbSizeInUse",
    "raftIndex",
    "raftAppliedIndex",
    "raftTerm",
    "storageVersion",
    "dbSizeQuota",
    "downgradeInfo",
    // Of a lease: it passes.
    "ttl",
];

/// Columns of tables, and positions in the comma-separated line of `endpoint status`.
const COLUMNS: [&str; 6] = [
    "VERSION",
    "DB SIZE",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ID",
];
const STATUS_FIELDS: [usize; 6] = [1, 2, 3, 6, 7, 8];

/// The server that is queried: a cluster of one, or a proxy for it.
struct Side {
    cluster: Cluster,
    proxy: Option<Host>,
    /// The id of the last granted lease, as etcdctl prints it.
    lease: RefCell<String>,
    /// The commands that are running.
    streams: RefCell<Vec<Stream>>,
}

impl Side {
    async fn start(binary: &Path) -> Result<Side> {
        Ok(Side {
            cluster: Cluster::start(&Plan::new(binary, 1)).await?,
            proxy: None,
            lease: RefCell::default(),
            streams: RefCell::default(),
        })
    }

    async fn behind_a_proxy(binary: &Path) -> Result<Side> {
        let mut side = Side::start(binary).await?;
        let mut proxy = Host::proxy(binary, &side.cluster, "proxy")?;
        proxy.start()?;
        proxy.serves().await?;
        side.proxy = Some(proxy);
        Ok(side)
    }

    fn endpoint(&self) -> &str {
        match &self.proxy {
            Some(proxy) => &proxy.client_url,
            None => &self.cluster.members[0].client_url,
        }
    }

    fn logs(&self) -> String {
        let proxy = self.proxy.as_ref().map(Host::log_tail);
        self.cluster.log_tails() + &proxy.unwrap_or_default()
    }
}

#[tokio::test]
async fn etcdctl_sees_no_difference() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::start(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, SCRIPT)
}

#[tokio::test]
async fn etcdctl_sees_no_difference_through_a_proxy() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::behind_a_proxy(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, SCRIPT)
}

#[tokio::test]
async fn etcdctl_sees_no_difference_in_accounts_and_their_rights() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::start(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, ACCOUNTS)
}

#[tokio::test]
async fn nor_through_a_proxy() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let ours = Side::behind_a_proxy(&binary::ours()?).await?;
    compare(&ours, &Side::start(&etcd).await?, ACCOUNTS)
}

fn compare(ours: &Side, theirs: &Side, script: &str) -> Result<()> {
    let etcdctl = binary::on_path("etcdctl").context("etcd is on PATH, but etcdctl is not")?;
    let mut differences = String::new();
    for line in script.lines().filter(|line| !line.is_empty()) {
        let our = run(&etcdctl, ours, line)?;
        let their = run(&etcdctl, theirs, line)?;
        if our != their {
            differences += &format!("$ etcdctl {line}\n--- ours\n{our}\n--- etcd's\n{their}\n\n");
        }
    }
    ensure!(differences.is_empty(), "{differences}{}", ours.logs());
    Ok(())
}

/// Every member of a cluster answers etcdctl, and all name the same leader.
#[tokio::test]
async fn etcdctl_may_ask_any_member() -> Result<()> {
    if binary::etcd_or_skip()?.is_none() {
        return Ok(());
    }
    let etcdctl = binary::on_path("etcdctl").context("etcd is on PATH, but etcdctl is not")?;
    let cluster = Cluster::start(&Plan::new(&binary::ours()?, 3)).await?;
    for (number, endpoint) in cluster.endpoints().iter().enumerate() {
        let (code, out, _) = call(&etcdctl, endpoint, &["put", "key", &number.to_string()], "")?;
        ensure!((code, out.trim()) == (0, "OK"), "{endpoint}: {out}");
        for reader in cluster.endpoints() {
            let (_, out, _) = call(&etcdctl, &reader, &["get", "key", "--print-value-only"], "")?;
            ensure!(out.trim() == number.to_string(), "{reader}: {out}");
        }
    }
    let all = cluster.endpoints().join(",");
    let (code, out, _) = call(&etcdctl, &all, &["endpoint", "status"], "")?;
    let leaders = out
        .lines()
        .filter(|line| line.split(", ").nth(4) == Some("true"))
        .count();
    ensure!((code, leaders) == (0, 1), "{out}");
    let (code, out, err) = call(&etcdctl, &all, &["endpoint", "health"], "")?;
    let healthy = (out.clone() + &err).matches(" is healthy").count();
    ensure!((code, healthy) == (0, 3), "{out}{err}");
    let (code, out, _) = call(&etcdctl, &all, &["member", "list"], "")?;
    ensure!(
        (code, out.matches(", started, ").count()) == (0, 3),
        "{out}"
    );
    Ok(())
}

/// Runs a line of the script; returns the masked outcome.
fn run(etcdctl: &Path, side: &Side, line: &str) -> Result<String> {
    let line = line.replace("{lease}", &side.lease.borrow());
    if line == "stop" {
        let last = side.streams.borrow_mut().pop().context("nothing runs")?;
        return Ok(mask(side, &last.stop()?, ""));
    }
    let (kept, line) = match line.strip_prefix("& ") {
        Some(rest) => (true, rest),
        None => (false, &line[..]),
    };
    let (line, expected) = line.split_once(" ~ ").unwrap_or((line, ""));
    let (arguments, input) = line.split_once(" <<< ").unwrap_or((line, ""));
    let input = input.replace("\\n", "\n");
    if !expected.is_empty() {
        let stream = Stream::start(etcdctl, side.endpoint(), arguments, &input, expected)?;
        if kept {
            side.streams.borrow_mut().push(stream);
            return Ok(String::new());
        }
        return Ok(mask(side, &stream.stop()?, arguments));
    }
    let words: Vec<&str> = arguments.split(' ').collect();
    let (code, out, err) = call(etcdctl, side.endpoint(), &words, &input)?;
    if let Some((id, _)) = out
        .strip_prefix("lease ")
        .and_then(|rest| rest.split_once(" granted"))
    {
        side.lease.replace(id.to_owned());
    }
    Ok(mask(
        side,
        &format!("exit code {code}\n{out}\n{err}"),
        arguments,
    ))
}

fn mask(side: &Side, text: &str, arguments: &str) -> String {
    let lines = text.lines();
    let masked = lines.filter_map(|line| mask_line(&mask_urls(side, line), arguments));
    masked.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// Runs etcdctl: exit code, standard output, standard error.
fn call(
    etcdctl: &Path,
    endpoints: &str,
    arguments: &[&str],
    input: &str,
) -> Result<(i32, String, String)> {
    let mut command = Command::new(PathBuf::from(etcdctl));
    command
        .env("ETCDCTL_API", "3")
        .arg("--endpoints")
        .arg(endpoints)
        .args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    // etcdctl gives up by itself after 5 s.
    let output = child.wait_with_output()?;
    let Some(code) = output.status.code() else {
        bail!("etcdctl {arguments:?} ended with {}", output.status);
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((code, text(output.stdout), text(output.stderr)))
}

fn mask_urls(side: &Side, line: &str) -> String {
    let host = |url: &str| url.trim_start_matches("http://").to_string();
    // For etcdctl this server is the address of client 0.
    let mut line = line.replace(&host(side.endpoint()), "CLIENT0");
    let lease = side.lease.borrow();
    if let Ok(id) = i64::from_str_radix(&lease, 16) {
        line = line.replace(&*lease, "LEASE").replace(&id.to_string(), "0");
    }
    for (number, member) in side.cluster.members.iter().enumerate() {
        line = line.replace(&host(&member.client_url), &format!("CLIENT{number}"));
        line = line.replace(&host(&member.peer_url), &format!("PEER{number}"));
    }
    line
}

/// The line without its variable parts; an empty text for a table's border.
fn mask_line(line: &str, arguments: &str) -> Option<String> {
    let line = line.trim_end();
    if line.starts_with("+--") {
        return None;
    }
    if let Ok(mut json) = serde_json::from_str::<Value>(line) {
        // The client's own log: of its error only our part is compared.
        if json.get("level").is_some() {
            return Some(json["error"].to_string());
        }
        mask_json(&mut json);
        return Some(json.to_string());
    }
    if line.starts_with('|') {
        return Some(mask_cells(line));
    }
    if let Some((name, value)) = line.split_once("\" : ") {
        let name = name.trim_start_matches('"');
        let pair = name == "Version" && !value.starts_with('"');
        let masked = !pair && MASKED.iter().any(|masked| same_name(masked, name));
        return Some(if masked {
            format!("{name}: masked")
        } else {
            line.to_string()
        });
    }
    if arguments == "endpoint status" {
        let fields = line.split(", ").enumerate();
        let fields = fields.map(|(at, field)| {
            if STATUS_FIELDS.contains(&at) {
                "masked"
            } else {
                field
            }
        });
        return Some(fields.collect::<Vec<_>>().join(", "));
    }
    let line = line.split("took = ").next().unwrap_or(line);
    let words = line.split(", ").map(|word| {
        // The time that a lease has left.
        let remaining = word.starts_with("remaining(");
        // The key of a session ends with its lease.
        let (path, last) = word.rsplit_once('/').unwrap_or(("", word));
        match mask_id(last) {
            _ if remaining => "remaining".to_owned(),
            "ID" => format!("{path}/ID"),
            _ => word.to_owned(),
        }
    });
    Some(words.collect::<Vec<_>>().join(", "))
}

/// `raft_term` of JSON is `RaftTerm` among fields.
fn same_name(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    plain(one) == plain(other)
}

fn mask_json(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                // A pair's version is a number and not masked; a server's is text.
                let pair = name == "version" && value.is_number();
                if MASKED.contains(&name.as_str()) && !pair {
                    *value = Value::Null;
                }
                mask_json(value);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_json),
        _ => {}
    }
}

/// A table's cells without their padding. A cell is masked by its form, since rows do not contain
/// their headings: versions, sizes, ids and bare numbers.
fn mask_cells(line: &str) -> String {
    let cells = line.split('|').map(|cell| {
        let cell = cell.trim();
        // Before numbers: an id may have decimal digits only.
        if mask_id(cell) != cell {
            return mask_id(cell);
        }
        let number = !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || c == '.');
        let size = cell.ends_with('B') && cell.starts_with(|c: char| c.is_ascii_digit());
        let heading = COLUMNS.contains(&cell);
        if (number || size) && !heading {
            "masked"
        } else {
            cell
        }
    });
    cells.collect::<Vec<_>>().join("|")
}

/// Member and cluster ids are the only long hexadecimal words.
fn mask_id(word: &str) -> &str {
    let hex = word.len() >= 13 && word.chars().all(|c| c.is_ascii_hexdigit());
    if hex { "ID" } else { word }
}
